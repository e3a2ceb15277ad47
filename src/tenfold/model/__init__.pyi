# What other rooms may use of this one. The package loads each name when it is first asked for.
from .huggingface import load_huggingface as load_huggingface
from .huggingface import save_huggingface as save_huggingface
from .parametrisation import Role as Role
from .parametrisation import adamw_multipliers as adamw_multipliers
from .parametrisation import role_of as role_of
from .size import ParameterCount as ParameterCount
from .size import count_parameters as count_parameters
from .size import training_flops_per_token as training_flops_per_token
from .transformer import Attention as Attention
from .transformer import Block as Block
from .transformer import Loss as Loss
from .transformer import Transformer as Transformer
from .transformer import compile_model as compile_model
from .transformer import initialise as initialise
