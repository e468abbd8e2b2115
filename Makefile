# Both do all of their own set-up on a fresh machine; see README.md.
.PHONY: gameday test bench soak lint down
gameday: ; @bin/setup && .venv/bin/chaos gameday --up $(ENGINES:%=--engine %) experiments/zone-outage
test: ; @bin/setup --tests && bin/test $(ENGINES:%=--engine %)
bench: ; @bin/setup && .venv/bin/python -m loadgen.bench && .venv/bin/chaos cluster up && .venv/bin/chaos lakehouse up && .venv/bin/chaos steady --seconds 60
soak: ; @bin/setup && .venv/bin/chaos cluster up && .venv/bin/chaos lakehouse up --formation milvus && .venv/bin/chaos soak --kills 200
lint: ; @bin/setup && .venv/bin/ruff check . && .venv/bin/ruff format --check . && .venv/bin/mypy
down: ; @bin/setup && .venv/bin/chaos cluster down
