//! The `msgbench` command: arguments in, exit code out; nothing else.

fn main() -> std::process::ExitCode {
    msgbench::cli::main().into()
}
