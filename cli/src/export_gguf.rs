//! `cllm export-gguf`: a checkpoint in the other common format.

use std::process::ExitCode;

use cllm_engine::Checkpoint;
use cllm_engine::checkpoint::{ExportDtype, export_gguf};

use crate::args::{ExportGgufArguments, GgufDtype};
use crate::error::CliError;

pub(crate) fn run(arguments: &ExportGgufArguments) -> Result<ExitCode, CliError> {
    let dtype = match arguments.dtype {
        GgufDtype::F32 => ExportDtype::F32,
        GgufDtype::Bf16 => ExportDtype::Bf16,
        GgufDtype::F16 => ExportDtype::F16,
        GgufDtype::Q8 => ExportDtype::Q8_0,
    };
    let checkpoint = Checkpoint::open(&arguments.model)?;
    export_gguf(&checkpoint, &arguments.output, dtype)?;
    anstream::println!("{} is written", arguments.output.display());
    Ok(ExitCode::SUCCESS)
}
