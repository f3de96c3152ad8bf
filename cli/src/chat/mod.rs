//! `cllm chat`: asks a running model, streams its answer, and says how many tokens a forward gave.

mod client;

use std::io::{BufRead, IsTerminal, Write};
use std::process::ExitCode;

use serde_json::{Value, json};

pub(crate) use client::ChatError;
use client::{Answer, Client, Content, Question};

use crate::CliError;
use crate::args::ChatArguments;

pub(crate) async fn run(arguments: ChatArguments) -> Result<ExitCode, CliError> {
    let client = Client::new(&arguments.url, arguments.api_key.as_deref())?;
    let model = match &arguments.model {
        Some(model) => model.clone(),
        None => client.first_model().await?,
    };
    let mut conversation = Conversation { client, model, arguments, messages: Vec::new() };
    if let Some(prompt) = conversation.arguments.prompt.clone() {
        conversation.ask(&prompt).await?;
        return Ok(ExitCode::SUCCESS);
    }
    let is_terminal = std::io::stdin().is_terminal();
    loop {
        if is_terminal {
            show("> ");
        }
        let mut line = String::new();
        match std::io::stdin().lock().read_line(&mut line) {
            Ok(0) => return Ok(ExitCode::SUCCESS),
            Ok(_) => {}
            Err(source) => return Err(ChatError::Input(source).into()),
        }
        let prompt = line.trim_end_matches(['\n', '\r']);
        match conversation.ask(prompt).await {
            // a refused prompt ends a pipe, not a conversation
            Err(error) if is_terminal => anstream::eprintln!("error: {error}"),
            answered => answered?,
        }
    }
}

struct Conversation {
    client: Client,
    model: String,
    arguments: ChatArguments,
    /// What was said; only in chats at a terminal, where one line follows from another.
    messages: Vec<Value>,
}

impl Conversation {
    async fn ask(&mut self, prompt: &str) -> Result<(), ChatError> {
        if prompt.trim().is_empty() {
            return Ok(());
        }
        let answer = self.answer(prompt).await?;
        if self.arguments.json {
            let Answer { text, usage, metrics } = &answer;
            show(&format!("{}\n", json!({"prompt": prompt, "text": text, "usage": usage, "metrics": metrics})));
        } else {
            show("\n");
            if let Some(summary) = summary(&answer) {
                anstream::eprintln!("{summary}");
            }
        }
        Ok(())
    }

    async fn answer(&mut self, prompt: &str) -> Result<Answer, ChatError> {
        let show_piece = |piece: &str| show(piece);
        let ignore_piece = |_: &str| ();
        let on_piece: &dyn Fn(&str) = if self.arguments.json { &ignore_piece } else { &show_piece };
        let ChatArguments { max_tokens, temperature, seed, .. } = self.arguments;
        let question = |content| Question { model: &self.model, max_tokens, temperature, seed, content };
        if self.arguments.completion {
            return self.client.ask(&question(Content::Prompt(prompt)), on_piece).await;
        }
        let mut messages = self.messages.clone();
        messages.push(json!({"role": "user", "content": prompt}));
        let answer = self.client.ask(&question(Content::Messages(&messages)), on_piece).await?;
        if std::io::stdin().is_terminal() {
            messages.push(json!({"role": "assistant", "content": answer.text}));
            self.messages = messages;
        }
        Ok(answer)
    }
}

/// `[23 tokens, 3.29 per forward]`, with the seed of an answer that was drawn.
fn summary(answer: &Answer) -> Option<String> {
    let tokens = answer.usage.as_ref()?.get("completion_tokens")?.as_u64()?;
    let rate = answer.metrics.as_ref().and_then(|metrics| metrics.get("tokens_per_forward")?.as_f64());
    let rate = rate.map(|rate| format!(", {rate:.2} per forward")).unwrap_or_default();
    let seed = answer.metrics.as_ref().and_then(|metrics| metrics.get("seed")?.as_i64());
    let seed = seed.map(|seed| format!(", seed {seed}")).unwrap_or_default();
    Some(format!("[{tokens} tokens{rate}{seed}]"))
}

/// A closed pipe is found by the next write of the shell.
fn show(text: &str) {
    let mut output = std::io::stdout().lock();
    let _ = output.write_all(text.as_bytes()).and_then(|()| output.flush());
}
