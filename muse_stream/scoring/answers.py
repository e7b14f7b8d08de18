"""Scores of a table, and the same as an Arrow table or a DataFrame.

The one module of this room that may import pyarrow and pandas, and only when a caller asks for their form: scoring
itself needs neither. pandas is no dependency of this package.
"""

from typing import Any

from numpy.typing import NDArray


class Answers(dict[str, NDArray[Any]]):
    """Columns by name, one entry per row of the table that was scored.

    `score`, `aggregate`, `predictor`, `predictor_version`; `error`, which is None where there is a score; and
    `shadow:NAME` for each shadow predictor. A number that is not there is NaN, a version 0.
    """

    def to_arrow(self) -> Any:
        """Return a `pyarrow.Table`; a score that is not there is null."""
        import pyarrow as pa  # noqa: PLC0415

        texts = {name: pa.string() for name in ("predictor", "error")}  # a column of nulls does not tell its type
        return pa.table({name: pa.array(column, texts.get(name), from_pandas=True) for name, column in self.items()})

    def to_pandas(self) -> Any:
        """Return a `pandas.DataFrame`. Raises ImportError where pandas is not installed."""
        try:
            import pandas as pd  # noqa: PLC0415
        except ModuleNotFoundError as error:
            raise ImportError("to_pandas needs pandas, which is not installed: pip install pandas") from error
        return pd.DataFrame(dict(self))
