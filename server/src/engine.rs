//! The engine behind the door of `backend.rs`: opens the checkpoint, and turns its tokens into text one by one.

use std::{num::NonZeroUsize, sync::Arc};

use cllm_engine::{
    Checkpoint, ComputeOptions, DecodeOptions, FinishReason as EngineFinish, Message, Model, Sequence, Strategy,
    StreamDecoder, Tokenizer, Workspace, checkpoint,
};

use crate::{
    args::{Args, StrategyName},
    backend::{Backend, Description, Finish, FinishReason, Forwards, LoadedModel, Step, Text},
};

/// A model with the memory of the one thread that runs it.
pub struct Engine {
    model: Model,
    workspace: Workspace,
    tokenizer: Tokenizer,
    strategy: Strategy,
}

/// One answer of the engine.
pub struct Generation {
    sequence: Sequence,
    decoder: StreamDecoder,
    limit: usize,
    drafted: u64,
}

/// Loads the checkpoint of the command line. The error is a sentence for whoever wrote that command line.
pub fn load(args: &Args) -> Result<LoadedModel<Engine>, String> {
    let opened = Checkpoint::open(&args.model).map_err(|error| error.to_string())?;
    let context_length = context_length(args, opened.config().max_position_embeddings)?;
    let digest = checkpoint::digest(&args.model).map_err(|error| error.to_string())?;
    let options = ComputeOptions { threads: args.threads.map_or(0, usize::from), instruction_set: None };
    let model = Model::load(&opened, options).map_err(|error| error.to_string())?;
    let hardware = model.hardware();
    let (strategy, block_size) = strategy(args);
    let description = Description {
        digest,
        parameters: opened.parameters(),
        context_length,
        strategy: args.strategy.as_str().to_owned(),
        block_size,
        instruction_set: hardware.instruction_set.to_owned(),
        hardware: format!("{}, threads: {}, {}", hardware.cpu, hardware.threads, hardware.instruction_set),
    };
    let tokenizer = opened.tokenizer().clone();
    let text = EngineText { tokenizer: tokenizer.clone(), vocabulary_size: opened.config().vocab_size };
    let workspace = Workspace::new(&model);
    Ok(LoadedModel { backend: Engine { model, workspace, tokenizer, strategy }, text: Arc::new(text), description })
}

fn context_length(args: &Args, largest: usize) -> Result<usize, String> {
    match args.context_length {
        Some(asked) if asked as usize > largest => Err(format!(
            "--context-length is {asked}, but the checkpoint has {largest} positions. Ask for at most {largest}, or leave it away"
        )),
        Some(asked) => Ok(asked as usize),
        None => Ok(largest),
    }
}

/// With the rows of a forward.
fn strategy(args: &Args) -> (Strategy, u32) {
    match args.strategy {
        StrategyName::Autoregressive => (Strategy::Autoregressive, 1),
        StrategyName::Jacobi => {
            let block_size = NonZeroUsize::new(args.block_size as usize).unwrap_or(NonZeroUsize::MIN);
            (Strategy::Jacobi { block_size, lookup: args.lookup }, args.block_size)
        }
    }
}

impl Engine {
    /// Guesses of a forward: all rows but the first, and never more rows than tokens are left.
    fn guesses(&self, left: usize) -> usize {
        let rows = match self.strategy {
            Strategy::Autoregressive => 1,
            Strategy::Jacobi { block_size, .. } => block_size.get(),
        };
        rows.min(left).saturating_sub(1)
    }
}

impl Backend for Engine {
    type Generation = Generation;

    fn start(&mut self, prompt: &[u32], max_tokens: usize) -> Result<Generation, String> {
        let options = DecodeOptions { strategy: self.strategy, max_new_tokens: max_tokens, stop_at_eos: true };
        let sequence = Sequence::start(&self.model, prompt, options).map_err(|error| error.to_string())?;
        Ok(Generation { sequence, decoder: StreamDecoder::new(&self.tokenizer), limit: max_tokens, drafted: 0 })
    }

    fn step(&mut self, generation: &mut Generation) -> Result<Step, String> {
        let Generation { sequence, decoder, limit, drafted } = generation;
        let before = sequence.tokens().len();
        sequence.step(&self.model, &mut self.workspace).map_err(|error| error.to_string())?;
        if before > 0 {
            *drafted += self.guesses(*limit - before) as u64;
        }
        let reason = sequence.finish_reason();
        let found = &sequence.tokens()[before..];
        // the end of sequence has no text, whether or not the tokenizer calls it special
        let spoken = if reason == Some(EngineFinish::Stop) { found.len().saturating_sub(1) } else { found.len() };
        let mut pieces: Vec<String> = found[..spoken].iter().map(|&token| decoder.push(&[token])).collect();
        pieces.resize(found.len(), String::new());
        let finish = reason.map(|reason| Finish {
            reason: match reason {
                EngineFinish::Stop => FinishReason::Stop,
                EngineFinish::Length => FinishReason::Length,
            },
            tail: std::mem::replace(decoder, StreamDecoder::new(&self.tokenizer)).finish(),
        });
        Ok(Step { pieces, finish })
    }

    fn forwards(&self, generation: &Generation) -> Forwards {
        let decode = generation.sequence.statistics().decode_forwards as u64;
        Forwards { decode, drafted: generation.drafted }
    }
}

/// The tokenizer, beside the engine thread.
struct EngineText {
    tokenizer: Tokenizer,
    vocabulary_size: usize,
}

impl Text for EngineText {
    fn encode(&self, text: &str) -> Result<Vec<u32>, String> {
        self.tokenizer.encode(text).map_err(|error| error.to_string())
    }

    fn encode_chat(&self, messages: &[Message]) -> Result<Vec<u32>, String> {
        let prompt = self.tokenizer.chat_prompt(messages).map_err(|error| error.to_string())?;
        self.tokenizer.encode_without_special_tokens(&prompt).map_err(|error| error.to_string())
    }

    fn vocabulary_size(&self) -> usize {
        self.vocabulary_size
    }
}
