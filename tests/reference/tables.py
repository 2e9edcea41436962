"""Writes the workbooks and Parquet files that data/table.rs reads in its tests: the same rows in each.

    pip install pandas openpyxl odfpy pyarrow polars
    python tests/reference/tables.py
"""

import pathlib

import pandas as pd
import polars as pl

here = pathlib.Path(__file__).parent
rows = pd.DataFrame(
    {
        "ID": [1, 2, 3],
        "Text": ['a, "b"', "Zoë\nsays", "日本"],
        "label": ["good", None, "bad"],
        "stars": [4.5, 3.0, 1.0],
    }
)
with pd.ExcelWriter(here / "table.xlsx") as book:
    pd.DataFrame({"note": ["not this sheet"]}).to_excel(book, sheet_name="about", index=False)
    # A title, a date and an empty row above the header, as reports have them.
    rows.to_excel(book, sheet_name="rows", index=False, startrow=3)
    sheet = book.sheets["rows"]
    sheet["A1"], sheet["A2"], sheet["B2"] = "A report", "as of", "12.03.2024"
rows.to_excel(here / "table.ods", index=False)
lower = rows.rename(columns={"Text": "text", "ID": "id"})
lower.to_parquet(here / "table.snappy.parquet", engine="pyarrow")
lower.to_parquet(here / "table.gzip.parquet", engine="pyarrow", compression="gzip", row_group_size=2)
pl.from_pandas(lower).write_parquet(here / "table.zstd.parquet")
