"""`python -m penstock.store`: the command `penstock store`."""

from penstock.cli.store import store
from penstock.schemas.errors import PenstockError

if __name__ == "__main__":
    try:
        store(prog_name="penstock store")
    except PenstockError as error:
        raise SystemExit(f"Error: {error}") from error
