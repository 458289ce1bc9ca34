"""No table about a user is missing from the export (GDPR, articles 15 and 20)."""

import dataclasses
from typing import get_args, get_type_hints

import sqlalchemy as sa

from apps.api_v1.export import ExportAnswer
from apps.extensions import db
from apps.services.export import Export

# {table: why the export does not hold its rows}
NOT_EXPORTED: dict[str, str] = {}


def is_personal(table: sa.Table) -> bool:
    """Return True if the rows of a table belong to a user."""
    columns = table.columns
    refers = any(key.column.table.name == "users" for column in columns for key in column.foreign_keys)
    return table.name == "users" or refers or bool({"user_id", "subject_id"} & set(columns.keys()))


def exported_tables() -> set[str]:
    """Return the tables of the fields of `Export`, each a row or a sequence of rows."""
    return {(get_args(hint) or (hint,))[0].__tablename__ for hint in get_type_hints(Export).values()}


def forgotten(metadata: sa.MetaData) -> set[str]:
    personal = {table.name for table in metadata.tables.values() if is_personal(table)}
    return personal - exported_tables() - set(NOT_EXPORTED)


def test_the_export_holds_every_table_about_a_user() -> None:
    tables = forgotten(db.metadata)
    assert not tables, (
        f"{sorted(tables)}: add the rows to Export and export_user (apps/services/export.py) and to ExportAnswer "
        "(apps/api_v1/export.py), or name the table in NOT_EXPORTED of tests/contract/test_export_tables.py, with the "
        "reason"
    )


def test_every_kind_of_row_is_in_the_answer() -> None:
    kinds = [field.name for field in dataclasses.fields(Export)]
    assert len(ExportAnswer.__struct_fields__) == len(kinds), (
        f"ExportAnswer (apps/api_v1/export.py) needs one field for each of {kinds} (apps/services/export.py)"
    )


def test_the_list_names_only_tables_that_need_it() -> None:
    assert set(NOT_EXPORTED) <= set(db.metadata.tables) - exported_tables()


def test_a_forgotten_table_is_found() -> None:
    metadata = sa.MetaData()
    sa.Table("users", metadata, sa.Column("id", sa.Integer, primary_key=True))
    sa.Table("a", metadata, sa.Column("owner", sa.ForeignKey("users.id")))
    sa.Table("b", metadata, sa.Column("user_id", sa.Integer))
    sa.Table("c", metadata, sa.Column("subject_id", sa.Integer))
    sa.Table("d", metadata, sa.Column("id", sa.Integer))
    assert forgotten(metadata) == {"a", "b", "c"}
