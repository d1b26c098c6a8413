"""A trained network on disk, in every form: a folder, a packed file, a LiteRT file."""

from lttlib.models import packed
from lttlib.models.folder import load, load_teacher, read_card, save, update_card, write_card
from lttlib.models.litert import QUANTIZATIONS, convert, deploy, inference_function
from lttlib.models.memory import peak_memory
from lttlib.models.model import Model
