//! The binary `cllm` (and `kubectl-cllm`): hands the arguments to the library and turns its answer into an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    cllm_cli::main()
}
