//! The `msgbench` command: arguments in, exit code out.
fn main() {}
