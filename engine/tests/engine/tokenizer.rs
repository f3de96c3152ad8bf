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
        let described = json!({ "chat_template": template, "bos_token": { "content": "<s>" }, "eos_token": "</s>",
            "pad_token": "<pad>", "unk_token": { "content": "<unk>" }, "sep_token": null });
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

/// Shortened from what the families publish: the same constructs.
const LLAMA3: &str = r#"{{- bos_token }}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}{%- set date_string = strftime_now("%Y") %}{%- else %}{%- set date_string = "2024" %}{%- endif %}
{%- endif %}
{%- if not tools is defined %}{{ raise_exception('tools must be defined') }}{%- endif %}
{%- if tools is not none %}{{ 'tools' }}{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content'] | trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|system|>" + system_message + (date_string | length | string) }}
{%- for message in messages %}
    {{- '<|' + message['role'] + '|>' + message['content'] | trim + '<|eot|>' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|assistant|>' }}{%- endif %}
"#;
const QWEN3: &str = r#"{%- set ns = namespace(last=messages|length - 1, open=true) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.open and message.role == "user" and message.content is string and not(message.content.startswith('<tool>')) %}
        {%- set ns.open = false %}{%- set ns.last = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- set content = message.content %}
    {%- if message.role == "assistant" and '</think>' in content %}
        {%- set content = content.split('</think>')[-1].lstrip('\n') %}
    {%- endif %}
    {{- '<|im_start|>' + message.role + ('!' if loop.index0 == ns.last else '') + '\n' + content + '<|im_end|>\n' }}
{%- endfor %}
{%- if tools %}{{ tools | tojson }}{%- endif %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- if enable_thinking is defined and enable_thinking is false %}x{%- endif %}{%- endif %}"#;
const SMOLLM: &str = "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou are helpful<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n'}}{% generation %}{{ message['content'] + '<|im_end|>' }}{%- endgeneration -%}{{ '\n' }}{% endfor %}";
const MISTRAL: &str = "{{ bos_token }}{% for message in messages %}{% if message.role == 'assistant' %}{% continue %}{% endif %}{% if message.role == 'user' %}{{ '[INST] ' + message.content + ' [/INST]' }}{% elif message.content == 'stop' %}{% break %}{% endif %}{% endfor %}{{ pad_token is defined }}{{ unk_token }}{{ sep_token is defined }}";

#[test]
fn templates_of_the_families_are_rendered() {
    let messages = [
        json!({ "role": "system", "content": " be brief " }),
        json!({ "role": "user", "content": "hi" }),
        json!({ "role": "assistant", "content": "<think>\nhm</think>\n\nyes" }),
    ];
    for (template, expected) in [
        (LLAMA3, "<s><|system|>be brief4<|user|>hi<|eot|><|assistant|><think>\nhm</think>\n\nyes<|eot|><|assistant|>"),
        (
            QWEN3,
            "<|im_start|>system\n be brief <|im_end|>\n<|im_start|>user!\nhi<|im_end|>\n<|im_start|>assistant\nyes<|im_end|>\n<|im_start|>assistant\n",
        ),
        (
            SMOLLM,
            "<|im_start|>system\n be brief <|im_end|>\n<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n<think>\nhm</think>\n\nyes<|im_end|>\n",
        ),
        (MISTRAL, "<s>[INST] hi [/INST]True<unk>False"),
    ] {
        let rendered = with_template(Some(template)).chat_prompt(&messages).unwrap();
        assert_eq!(rendered, expected);
    }
}

#[test]
fn json_in_templates_is_that_of_python() {
    let value = json!({ "b": [1, 2.5, null, true], "a": { "é<&>'\"\u{7f}🦀": [] }, "c": {}, "d": 1e16, "e": 1.5e-7 });
    for (arguments, expected) in [
        (
            "",
            "{\"b\": [1, 2.5, null, true], \"a\": {\"é<&>'\\\"\u{7f}🦀\": []}, \"c\": {}, \"d\": 1e+16, \"e\": 1.5e-07}",
        ),
        (
            "(sort_keys=true, separators=(',', ':'), ensure_ascii=true)",
            r#"{"a":{"\u00e9<&>'\"\u007f\ud83e\udd80":[]},"b":[1,2.5,null,true],"c":{},"d":1e+16,"e":1.5e-07}"#,
        ),
        ("(unknown=1)", ""),
    ] {
        let template = format!("{{{{ messages[0].value | tojson{arguments} }}}}");
        let rendered = with_template(Some(&template)).chat_prompt(&[json!({ "value": value })]);
        if expected.is_empty() {
            assert!(rendered.is_err());
        } else {
            assert_eq!(rendered.unwrap(), expected);
        }
    }
    let indented = with_template(Some("{{ messages[0].value | tojson(indent=2) }}"));
    let rendered = indented.chat_prompt(&[json!({ "value": { "x": [1, {}], "y": "z" } })]).unwrap();
    assert_eq!(rendered, "{\n  \"x\": [\n    1,\n    {}\n  ],\n  \"y\": \"z\"\n}");
}

#[test]
fn generation_tags_are_ignored_and_nothing_else() {
    for (template, expected) in [
        ("a{% generation %} b {% endgeneration %}c", "a b c"),
        ("a {%- generation -%} b {%- endgeneration -%} c", "abc"),
        ("{# {% generation %} #}a{% set generation = 'x' %}{{ generation }}", "ax"),
        ("a\n  {% generation %}\nb\n  {% endgeneration %}\nc", "a\nb\nc"),
    ] {
        assert_eq!(with_template(Some(template)).chat_prompt(&[json!({})]).unwrap(), expected, "{template}");
    }
}

#[test]
fn a_template_file_comes_before_the_tokenizer_configuration_and_default_before_other_names() {
    let folder = folder(&config(), 1);
    let rendered = || {
        let checkpoint = Checkpoint::open(folder.path()).unwrap();
        checkpoint.tokenizer().chat_prompt(&[json!({})]).map_err(|error| error.to_string())
    };
    let described = |templates: serde_json::Value| {
        let text = json!({ "chat_template": templates, "bos_token": null, "eos_token": { "content": "</s>" } });
        fs::write(folder.path().join("tokenizer_config.json"), text.to_string()).unwrap();
    };
    let named = |name: &str, template: &str| json!({ "name": name, "template": template });
    described(json!([named("tool_use", "tools"), named("default", "{{ bos_token is defined }}{{ eos_token }}")]));
    assert_eq!(rendered().unwrap(), "False</s>");
    fs::write(folder.path().join("special_tokens_map.json"), r#"{ "bos_token": "<s>", "eos_token": "older" }"#)
        .unwrap();
    assert_eq!(rendered().unwrap(), "True</s>");
    described(json!([named("tool_use", "tools")]));
    assert!(rendered().unwrap_err().contains("no chat template"));
    fs::write(folder.path().join("chat_template.jinja"), "from the file\n").unwrap();
    assert_eq!(rendered().unwrap(), "from the file");
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
