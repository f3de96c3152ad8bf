//! What Jacobi decoding gains here: the loaded model against itself autoregressively, before it answers anybody.
//!
//! Bounded: at most [`MOST_PROMPTS`] prompts of at most [`MOST_TOKENS`] generated tokens, and none is begun after [`MOST_TIME`].

use std::{
    path::Path,
    time::{Duration, Instant},
};

use cllm_crds::status_page::MeasuredSpeedup;
use cllm_engine::{
    Model, Strategy, Tokenizer, Workspace,
    compare::{DecodeTotals, Round, Way, decode_in_turns, prompt_tokens},
};
use jiff::Timestamp;

/// Prompts that are decoded.
pub const MOST_PROMPTS: usize = 16;
/// Tokens that are generated for each, both ways.
pub const MOST_TOKENS: usize = 64;
/// After it no prompt is begun.
pub const MOST_TIME: Duration = Duration::from_secs(20);
/// Tokens of the first prompt that are decoded before anything is timed.
const WARM_UP_TOKENS: usize = 8;

/// Texts that any model can go on with. They say little about a model of one task.
const BUILT_IN: [&str; 8] = [
    "Write a short story about a lighthouse keeper.",
    "Question: What is the capital of France?\nAnswer:",
    "List the first ten prime numbers:",
    "def fibonacci(n):\n    ",
    "Translate to German: The weather is fine today.\n",
    "SELECT name, COUNT(*) FROM",
    "The three most important rules of writing are",
    "Explain step by step how to add 17 and 25.\n",
];

/// Prompts as tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompts {
    /// `built-in`, or the file.
    source: String,
    tokens: Vec<Vec<u32>>,
}

impl Prompts {
    /// Those of no task. One that the tokenizer cannot express is left out.
    pub fn built_in(tokenizer: &Tokenizer) -> Self {
        let tokens = BUILT_IN.iter().filter_map(|text| tokenizer.encode(text).ok()).collect();
        Self { source: "built-in".to_owned(), tokens }
    }

    /// One a line: plain text, or, where the line begins with `{`, JSON with `prompt` or `messages`. The error is a sentence without its
    /// full stop.
    pub fn read(path: &Path, tokenizer: &Tokenizer) -> Result<Self, String> {
        let named = |problem: String| format!("{}: {problem}", path.display());
        let text = std::fs::read_to_string(path).map_err(|error| named(error.to_string()))?;
        let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()).take(MOST_PROMPTS);
        let tokens = lines.map(|(index, line)| {
            line_tokens(tokenizer, line).map_err(|problem| named(format!("line {} {problem}", index + 1)))
        });
        let tokens = tokens.collect::<Result<Vec<_>, _>>()?;
        if tokens.is_empty() {
            return Err(named("it has no prompts; write one a line".to_owned()));
        }
        Ok(Self { source: path.display().to_string(), tokens })
    }

    /// The tokens of each.
    pub fn tokens(&self) -> &[Vec<u32>] {
        &self.tokens
    }
}

fn line_tokens(tokenizer: &Tokenizer, line: &str) -> Result<Vec<u32>, String> {
    if line.starts_with('{') {
        return prompt_tokens(tokenizer, line);
    }
    tokenizer.encode(line).map_err(|error| format!("cannot be used: {error}"))
}

/// Decodes the prompts autoregressively and the `served` way in turns; its pace goes on to learn. Absent where nothing could be measured: no prompt fits the context, or every answer ends
/// with its first token. The error is a sentence without its full stop.
pub fn measure(
    model: &Model,
    workspace: &mut Workspace,
    served: &mut Way,
    prompts: &Prompts,
) -> Result<Option<MeasuredSpeedup>, String> {
    let room = model.config().max_position_embeddings.saturating_sub(WARM_UP_TOKENS);
    let fitting: Vec<_> = prompts.tokens.iter().filter(|tokens| (1..=room).contains(&tokens.len())).collect();
    let strategy = served.strategy;
    let mut ways = [Strategy::Autoregressive.into(), served.clone()];
    let mut decode = |prompt: &[u32], limit, turn| {
        let round = Round { prompts: &[prompt], at_once: 1, max_new_tokens: limit, turn };
        decode_in_turns(model, workspace, &mut ways, round).map_err(|error| error.to_string())
    };
    if let Some(first) = fitting.first() {
        decode(first, WARM_UP_TOKENS, 0)?;
    }
    let began = Instant::now();
    let mut totals = [DecodeTotals::default(); 2];
    for (turn, prompt) in fitting.into_iter().take(MOST_PROMPTS).enumerate() {
        if turn > 0 && began.elapsed() > MOST_TIME {
            break;
        }
        for (totals, generations) in totals.iter_mut().zip(decode(prompt, MOST_TOKENS, turn)?) {
            for generation in &generations {
                totals.add(&generation.statistics, 0.0);
            }
        }
    }
    let [_, learned] = ways;
    *served = learned;
    let block_size = match strategy {
        Strategy::Autoregressive => 1,
        Strategy::Jacobi { block_size, .. } => block_size.get() as u32,
    };
    let hardware = model.hardware();
    Ok(figures(totals).map(|figures| MeasuredSpeedup {
        block_size,
        prompts_from: prompts.source.clone(),
        hardware: format!("{}, threads: {}", hardware.processor, hardware.threads),
        instruction_set: hardware.instruction_set.to_owned(),
        measured_at: format!("{:.0}", Timestamp::now()),
        ..figures
    }))
}

/// From the sums of both ways, autoregressive first.
fn figures([own, jacobi]: [DecodeTotals; 2]) -> Option<MeasuredSpeedup> {
    let over = |rate: fn(&DecodeTotals) -> f64| format!("{:.2}", rate(&jacobi) / rate(&own));
    (own.decode_tokens_per_second() > 0.0).then(|| MeasuredSpeedup {
        over_own_autoregressive: over(DecodeTotals::decode_tokens_per_second),
        over_own_autoregressive_end_to_end: over(DecodeTotals::end_to_end_tokens_per_second),
        tokens_per_forward: format!("{:.2}", jacobi.tokens_per_forward()),
        concurrency: 1,
        prompts: jacobi.prompts as u32,
        tokens: jacobi.generated_tokens,
        ..MeasuredSpeedup::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figures_are_those_of_jacobi_over_autoregressive() {
        let sums = |decode_forwards, decode_seconds| DecodeTotals {
            prompts: 2,
            generated_tokens: 42,
            decode_forwards,
            decode_seconds,
            end_to_end_seconds: decode_seconds + 1.0,
        };
        let found = figures([sums(40, 4.0), sums(10, 1.0)]).unwrap();
        assert_eq!(
            (found.over_own_autoregressive.as_str(), found.over_own_autoregressive_end_to_end.as_str()),
            ("4.00", "2.50")
        );
        assert_eq!((found.tokens_per_forward.as_str(), found.prompts, found.tokens), ("4.00", 2, 42));
        assert_eq!(figures([sums(0, 0.0), sums(0, 0.0)]), None);
    }
}
