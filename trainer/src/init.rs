//! `init`: a small Llama with random weights, and a byte-level tokenizer trained on the data.

use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use cllm_engine::checkpoint::ModelConfig;
use cllm_engine::differentiable::DifferentiableModel;
use rand::SeedableRng;
use rand::distr::Distribution;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use tokenizers::models::bpe::{BPE, BpeTrainerBuilder};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{
    AddedToken, DecoderWrapper, NormalizerWrapper, PostProcessorWrapper, PreTokenizerWrapper, SplitDelimiterBehavior,
    TokenizerBuilder,
};

use crate::data::{self, RecordArguments};
use crate::failure::{Failure, Result};
use crate::model_folder::{StoredDtype, write_json, write_weights};
use crate::storage;

const END_OF_TEXT: &str = "<|endoftext|>";
/// The last message of the user and a line break: the prompt format of the data sets.
const CHAT_TEMPLATE: &str =
    "{{ (messages | selectattr('role', 'equalto', 'user') | list | last)['content'] }}{{ '\\n' }}";
const STANDARD_DEVIATION: f64 = 0.02;
const DEFAULT_CONTEXT: u32 = 1024;

/// Arguments of `init`.
#[derive(Clone, Debug, clap::Args)]
pub struct InitArguments {
    /// JSON with the fields of a Llama config.json: `hidden_size`, `intermediate_size`, `num_hidden_layers`, `num_attention_heads`, …
    #[arg(long)]
    pub config: PathBuf,
    /// Data sets on which the tokenizer is trained.
    #[arg(long, required = true, num_args = 1..)]
    pub data: Vec<PathBuf>,
    /// See [`RecordArguments`].
    #[command(flatten)]
    pub records: RecordArguments,
    /// Tokens of the tokenizer, the end marker and the 256 bytes included.
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(257..=1_000_000))]
    pub vocab_size: u32,
    /// What a token may begin with
    #[arg(long, value_enum, default_value = "WithSpace")]
    pub words: Words,
    /// The folder to write; it must not exist.
    #[arg(long)]
    pub output: PathBuf,
    /// Decides over the weights.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}

/// How the tokenizer takes words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "PascalCase")]
pub enum Words {
    /// With the space before it, by the expression of GPT-2, which llama.cpp knows.
    WithSpace,
    /// Without: a name has the same tokens after a space as after a quotation mark, so that a small model learns to copy it. Such a
    /// tokenizer cannot be exported as GGUF.
    Alone,
}

/// Runs of letters and digits, and what stands between them.
const WORDS_ALONE: &str = r"[\p{L}\p{N}]+|[^\p{L}\p{N}]+";

/// Writes the checkpoint.
pub fn run(arguments: &InitArguments) -> Result<()> {
    if arguments.output.exists() {
        let output = arguments.output.display();
        return Err(Failure::BadInput(format!("{output} exists already; remove it or name another --output")));
    }
    let mut texts = Vec::new();
    for path in &arguments.data {
        texts.extend(data::read_texts(path, &arguments.records)?);
    }
    let tokenizer = train_tokenizer(&texts, arguments.vocab_size, arguments.words)?;
    let config = read_config(&arguments.config, tokenizer.vocabulary_size)?;
    let model = random_model(&config, arguments.seed)?;
    storage::write_folder(&arguments.output, |folder| {
        storage::write_bytes(&folder.join("tokenizer.json"), tokenizer.json.as_bytes())?;
        write_metadata(folder, &config)?;
        write_weights(&folder.join("model.safetensors"), &model.export()?, StoredDtype::F32)
    })?;
    let parameters: usize = model.variables().iter().map(|(_, variable)| variable.elem_count()).sum();
    tracing::info!(
        "wrote {}: {parameters} parameters, {} tokens in the vocabulary",
        arguments.output.display(),
        tokenizer.vocabulary_size
    );
    Ok(())
}

struct TrainedTokenizer {
    json: String,
    vocabulary_size: usize,
}

/// Byte-level BPE; id 0 ends a text.
fn train_tokenizer(texts: &[String], vocabulary_size: u32, words: Words) -> Result<TrainedTokenizer> {
    let mut trainer = BpeTrainerBuilder::new()
        .show_progress(false)
        .vocab_size(vocabulary_size as usize)
        .special_tokens(vec![AddedToken::from(END_OF_TEXT, true)])
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .build();
    let mut build = || -> tokenizers::Result<TrainedTokenizer> {
        let mut tokenizer = TokenizerBuilder::<
            BPE,
            NormalizerWrapper,
            PreTokenizerWrapper,
            PostProcessorWrapper,
            DecoderWrapper,
        >::default()
        .with_model(BPE::default())
        .with_normalizer(None)
        .with_pre_tokenizer(Some(pre_tokenizer(words)?))
        .with_post_processor(None)
        .with_decoder(Some(DecoderWrapper::from(ByteLevel::default())))
        .build()?;
        tokenizer.train(&mut trainer, texts.iter().map(String::as_str))?;
        Ok(TrainedTokenizer { json: tokenizer.to_string(true)?, vocabulary_size: tokenizer.get_vocab_size(true) })
    };
    build().map_err(|error| Failure::Engine(format!("the tokenizer could not be trained: {error}")))
}

fn pre_tokenizer(words: Words) -> tokenizers::Result<PreTokenizerWrapper> {
    let bytes = |splits_too| PreTokenizerWrapper::from(ByteLevel::new(false, true, splits_too));
    Ok(match words {
        Words::WithSpace => bytes(true),
        Words::Alone => {
            let pattern = SplitPattern::Regex(WORDS_ALONE.to_owned());
            let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false)?;
            PreTokenizerWrapper::from(Sequence::new(vec![split.into(), bytes(false)]))
        }
    })
}

fn read_config(path: &Path, vocabulary_size: usize) -> Result<ModelConfig> {
    let text = std::fs::read_to_string(path).map_err(Failure::read(path))?;
    let bad = |problem: String| Failure::BadInput(format!("{}: {problem}", path.display()));
    let mut config: Value = serde_json::from_str(&text).map_err(|error| bad(format!("it is not JSON ({error})")))?;
    let Some(fields) = config.as_object_mut() else {
        return Err(bad("it must be a JSON object with the fields of a Llama config.json".to_owned()));
    };
    fields.insert("model_type".to_owned(), json!("llama"));
    fields.insert("vocab_size".to_owned(), json!(vocabulary_size));
    fields.insert("eos_token_id".to_owned(), json!(0));
    fields.insert("pad_token_id".to_owned(), json!(0));
    fields.entry("max_position_embeddings").or_insert(json!(DEFAULT_CONTEXT));
    ModelConfig::from_json(&config.to_string()).map_err(|error| bad(error.to_string()))
}

/// Normal weights; those that write into the residual stream smaller with depth; norms at one, biases at zero.
fn random_model(config: &ModelConfig, seed: u64) -> Result<DifferentiableModel> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let shapes = config.tensor_shapes();
    let layers = config.num_hidden_layers as f64;
    let read = |name: &str| {
        let Some((_, shape)) = shapes.iter().find(|(found, _)| found == name) else {
            candle_core::bail!("a Llama has no weight {name}")
        };
        let residual = name.ends_with("o_proj.weight") || name.ends_with("down_proj.weight");
        let deviation = if residual { STANDARD_DEVIATION / (2.0 * layers).sqrt() } else { STANDARD_DEVIATION };
        let count = shape.iter().product();
        let values: Vec<f32> = match shape.len() {
            1 if name.rsplit('.').next() == Some("bias") => vec![0.0; count],
            1 => vec![1.0; count],
            _ => normal(&mut random, deviation, count),
        };
        Tensor::from_vec(values, shape.as_slice(), &Device::Cpu)
    };
    Ok(DifferentiableModel::new(config.into(), DType::F32, read)?)
}

/// Box–Muller on uniform numbers.
fn normal(random: &mut ChaCha8Rng, deviation: f64, count: usize) -> Vec<f32> {
    let uniform = rand::distr::OpenClosed01;
    let mut value = || {
        let (a, b): (f64, f64) = (uniform.sample(random), uniform.sample(random));
        ((-2.0 * a.ln()).sqrt() * (std::f64::consts::TAU * b).cos() * deviation) as f32
    };
    (0..count).map(|_| value()).collect()
}

fn write_metadata(folder: &Path, config: &ModelConfig) -> Result<()> {
    let mut fields = serde_json::to_value(config).map_err(Failure::engine)?;
    fields["torch_dtype"] = json!("float32");
    write_json(&folder.join("config.json"), &fields)?;
    write_json(
        &folder.join("generation_config.json"),
        &json!({ "do_sample": false, "eos_token_id": 0, "pad_token_id": 0 }),
    )?;
    let tokenizer = json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": END_OF_TEXT,
        "pad_token": END_OF_TEXT,
        "model_max_length": config.max_position_embeddings,
        "clean_up_tokenization_spaces": false,
        "chat_template": CHAT_TEMPLATE,
    });
    write_json(&folder.join("tokenizer_config.json"), &tokenizer)
}
