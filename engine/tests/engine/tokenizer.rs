//! Text to tokens and back, at once and piece by piece; chat prompts.

use std::fs;

use cllm_engine::checkpoint::EosTokenIds;
use cllm_engine::{Checkpoint, Message, ModelConfig, StreamDecoder, Tokenizer, TokenizerError};
use proptest::prelude::*;
use serde_json::json;

use crate::support::{config, folder};

/// One token a byte; 268 begins a text, 269 ends it.
fn byte_tokenizer() -> Tokenizer {
    with_template(None)
}

fn with_template(template: Option<&str>) -> Tokenizer {
    open_with_template(template).unwrap()
}

fn open_with_template(template: Option<&str>) -> Result<Tokenizer, cllm_engine::CheckpointError> {
    let config = ModelConfig { bos_token_id: Some(268), eos_token_id: Some(EosTokenIds::One(269)), ..config() };
    let folder = folder(&config, 1);
    if let Some(template) = template {
        let described = json!({ "chat_template": template, "bos_token": { "content": "<s>" }, "eos_token": "</s>" });
        fs::write(folder.path().join("tokenizer_config.json"), described.to_string()).unwrap();
    }
    Ok(Checkpoint::open(folder.path())?.tokenizer().clone())
}

fn stream(tokenizer: &Tokenizer, pieces: &[&[u32]]) -> Vec<String> {
    let mut decoder = StreamDecoder::new(tokenizer);
    let mut texts: Vec<String> = pieces.iter().map(|tokens| decoder.push(tokens)).collect();
    texts.push(decoder.finish());
    texts
}

#[test]
fn text_survives_encoding() {
    let tokenizer = byte_tokenizer();
    for text in ["", "SELECT 1;", "  two  spaces\n", "naïve 日本語 🦀"] {
        let tokens = tokenizer.encode(text).unwrap();
        assert_eq!(tokens.len(), text.len());
        assert_eq!(tokenizer.decode(&tokens), text);
    }
    assert_eq!(tokenizer.encode("<|end|>").unwrap(), [269], "special tokens are recognized in text");
    assert_eq!(tokenizer.decode(&[268, 72, 269]), tokenizer.decode(&[72]), "and skipped in output");
}

#[test]
fn a_stream_gives_whole_characters_as_soon_as_they_are_complete() {
    let tokenizer = byte_tokenizer();
    let tokens = tokenizer.encode("a é 🦀!").unwrap();
    let pieces: Vec<&[u32]> = tokens.chunks(1).collect();
    let expected = ["a", " ", "", "é", " ", "", "", "", "🦀", "!", ""];
    assert_eq!(stream(&tokenizer, &pieces), expected);
}

#[test]
fn a_stream_ends_with_what_was_held_back() {
    let tokenizer = byte_tokenizer();
    let crab = tokenizer.encode("x🦀").unwrap();
    assert_eq!(stream(&tokenizer, &[&crab[..3]]).concat(), tokenizer.decode(&crab[..3]));
    assert_eq!(stream(&tokenizer, &[&crab[..3]]).concat(), "x\u{FFFD}");
}

#[test]
fn endless_garbage_is_given_while_it_arrives() {
    let tokenizer = byte_tokenizer();
    let continuation = tokenizer.encode("é").unwrap()[1];
    let mut decoder = StreamDecoder::new(&tokenizer);
    let given: String = (0..100).map(|_| decoder.push(&[continuation])).collect();
    assert!(given.chars().count() > 80, "{} characters", given.chars().count());
    assert_eq!(given + &decoder.finish(), "\u{FFFD}".repeat(100));
}

proptest! {
    #[test]
    fn pieces_of_a_stream_are_the_whole(
        tokens in prop::collection::vec(prop_oneof![4 => 0_u32..270, 1 => Just(268_u32)], 0..120),
        text: String,
        size in 1_usize..9,
    ) {
        let tokenizer = byte_tokenizer();
        for tokens in [tokens, tokenizer.encode(&text).unwrap()] {
            let pieces: Vec<&[u32]> = tokens.chunks(size).collect();
            prop_assert_eq!(stream(&tokenizer, &pieces).concat(), tokenizer.decode(&tokens));
        }
    }
}

#[test]
fn a_chat_becomes_a_prompt() {
    let template = "{{ bos_token }}{% for m in messages %}\n    {% if m['role'].upper() == 'USER' %}\n<u>{{ m.content.strip() }}{{ eos_token }}\n    {% endif %}\n{% endfor %}{% if add_generation_prompt %}<a>{% endif %}";
    let tokenizer = with_template(Some(template));
    let typed = [Message { role: "user".to_owned(), content: " hi ".to_owned() }];
    assert_eq!(tokenizer.chat_prompt(&typed).unwrap(), "<s><u>hi</s>\n<a>");
    let values = [json!({ "role": "user", "content": "hi" }), json!({ "role": "system", "content": "x" })];
    assert_eq!(tokenizer.chat_prompt(&values).unwrap(), "<s><u>hi</s>\n<a>");
    assert_eq!(tokenizer.chat_template(), Some(template));
}

#[test]
fn a_chat_that_cannot_be_rendered_is_refused_with_a_sentence() {
    let folder = folder(&config(), 1);
    fs::remove_file(folder.path().join("tokenizer_config.json")).unwrap();
    let plain = Checkpoint::open(folder.path()).unwrap();
    let messages = [Message { role: "user".to_owned(), content: "hi".to_owned() }];
    assert!(matches!(plain.tokenizer().chat_prompt(&messages), Err(TokenizerError::NoChatTemplate)));
    for (template, part) in [
        ("{{ raise_exception('only assistants') }}", "only assistants"),
        ("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", "fuel"),
        ("{% for a in range(9999) %}{{ 'x' * 9999 }}{% endfor %}", "longer than"),
    ] {
        let message = with_template(Some(template)).chat_prompt(&messages).unwrap_err().to_string();
        assert!(message.contains(part), "expected {part:?} in: {message}");
    }
    let broken = open_with_template(Some("{% for %}")).unwrap_err().to_string();
    assert!(broken.contains("chat template"), "{broken}");
}
