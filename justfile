# The daily commands; `just` lists them. Each line can be typed without just.

# Types and lints of everything, in seconds after the first time.
check:
    cargo fmt --check
    cargo clippy --locked --all-targets -- -D warnings

# Tests beside the code, without servers.
unit:
    cargo test --locked --lib

# One file of tests: just test run, just test kafka.
test NAME:
    cargo test --locked --test {{NAME}}

# Everything, with real servers where they can be had.
all:
    scripts/test.sh

# What a change costs: the hot loops, the router, a comparison.
bench:
    cargo bench --bench harness
    cargo bench --bench router
    cargo bench --bench compare
    cargo bench --bench agents

# Accept changed snapshots one by one (cargo install cargo-insta).
snapshots:
    cargo insta review

# The main job, on the embedded broker.
run:
    cargo run --release -- run scenarios/fanout.toml --quick --system reference

# What .ci/run does before a change lands.
ci:
    .ci/run
