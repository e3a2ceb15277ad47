# What other rooms may use of this one. The package loads each name when it is first asked for.
from .holdouts import BestKept as BestKept
from .holdouts import HoldoutScorer as HoldoutScorer
from .holdouts import HoldoutScores as HoldoutScores
from .holdouts import evaluate_trained as evaluate_trained
from .holdouts import full_scorer as full_scorer
from .holdouts import holdout_scorer as holdout_scorer
from .holdouts import limit_documents as limit_documents
from .score import Score as Score
from .score import compressed_bits_per_byte as compressed_bits_per_byte
from .score import score_documents as score_documents
from .score import scoring_code_version as scoring_code_version
from .turning import Lowest as Lowest
from .turning import TurnWatch as TurnWatch
from .turning import turn_in_words as turn_in_words
