"""The transformer, its parametrisation, its size. Front door of the room."""

from tenfold.model.huggingface import load_huggingface, save_huggingface
from tenfold.model.initialisation import initialise
from tenfold.model.parametrisation import Role, adamw_multipliers, role_of
from tenfold.model.precision import choose_compute_dtype
from tenfold.model.size import ParameterCount, count_parameters, training_flops_per_token
from tenfold.model.transformer import Loss, Transformer, compile_model

__all__ = [
    "Loss",
    "ParameterCount",
    "Role",
    "Transformer",
    "adamw_multipliers",
    "choose_compute_dtype",
    "compile_model",
    "count_parameters",
    "initialise",
    "load_huggingface",
    "role_of",
    "save_huggingface",
    "training_flops_per_token",
]
