# Install what pyproject.toml asks for, and the extras that a pod may need, into /venv: from
# /wheels, or from PyPI if that is empty.
set -eu

python3 -m venv /venv
python3 - >/source/requirements.txt <<'PYTHON'
import tomllib
with open("/source/pyproject.toml", "rb") as file:
    project = tomllib.load(file)["project"]
extras = [name for extra in ("aws", "google", "otel", "stores") for name in project["optional-dependencies"][extra]]
print("\n".join([*project["dependencies"], *extras]))
PYTHON

set -- --quiet --disable-pip-version-check --no-cache-dir --no-compile --only-binary=:all:
if [ -s /run/secrets/certificates ]; then
  set -- "$@" --cert=/run/secrets/certificates
fi
if [ -n "$(find /wheels -name '*.whl' 2>/dev/null)" ]; then
  set -- "$@" --no-index --find-links=/wheels
fi
exec /venv/bin/pip install "$@" --requirement=/source/requirements.txt
