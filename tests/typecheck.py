"""The type checker that `conftest.py` hands to jaxtyping: beartype, which lets an int stand where a float is wanted."""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
