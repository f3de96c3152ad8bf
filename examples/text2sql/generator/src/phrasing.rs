//! The small grammar of questions: `(a|b)` is a choice, `[a]` is optional, `<word>` is a synonym of that word, `{slot}` is
//! filled in later. Also the politeness around a question. Nothing here knows the database.

use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;

/// Synonyms, themselves in the grammar.
const SYNONYMS: [(&str, &str); 14] = [
    ("list", "(list|show|show me|give me|display|find)"),
    ("what is", "(what is|tell me|give me|show me|find)"),
    ("what are", "(what are|list|give me|show me|show)"),
    ("per_line", "(per|in an) order line"),
    ("customers", "(customers|customers|clients|shoppers)"),
    ("customer", "(customer|customer|client)"),
    ("products", "(products|products|articles)"),
    ("product", "(product|product|article)"),
    ("employees", "(employees|employees|staff members|workers)"),
    ("suppliers", "(suppliers|suppliers|vendors)"),
    ("supplier", "(supplier|supplier|vendor)"),
    ("orders", "(orders|orders|purchases)"),
    ("per", "(per|for each|by|for every)"),
    ("revenue", "(revenue|turnover|sales revenue)"),
];

/// Verbs with which a request starts. "I" starts a statement, any other word a question.
const IMPERATIVES: [&str; 10] = ["list", "show", "give", "display", "find", "tell", "count", "rank", "sum", "look"];

/// One random reading of a template; `{slot}`s stay.
pub(crate) fn expand(template: &str, rng: &mut ChaCha8Rng) -> String {
    let mut out = String::with_capacity(template.len());
    expand_into(template, rng, &mut out);
    // what an optional part leaves when it is absent
    out.split_whitespace().collect::<Vec<_>>().join(" ").replace(" ,", ",")
}

fn expand_into(template: &str, rng: &mut ChaCha8Rng, out: &mut String) {
    let Some(open) = template.find(['(', '[', '<']) else {
        out.push_str(template);
        return;
    };
    out.push_str(&template[..open]);
    let inside_and_rest = &template[open + 1..];
    let close = matching_close(inside_and_rest);
    let (inside, rest) = (&inside_and_rest[..close], inside_and_rest.get(close + 1..).unwrap_or_default());
    match template.as_bytes()[open] {
        b'<' => expand_into(synonyms(inside), rng, out),
        b'[' if rng.random_ratio(1, 2) => {}
        _ => expand_into(alternatives(inside).choose(rng).copied().unwrap_or_default(), rng, out),
    }
    expand_into(rest, rng, out);
}

fn synonyms(word: &str) -> &str {
    SYNONYMS.iter().find(|(key, _)| *key == word).map_or(word, |(_, template)| template)
}

/// Where the bracket that is already open closes.
fn matching_close(text: &str) -> usize {
    let mut depth = 1_usize;
    for (index, byte) in text.bytes().enumerate() {
        match byte {
            b'(' | b'[' | b'<' => depth += 1,
            b')' | b']' | b'>' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return index;
        }
    }
    text.len()
}

/// Splits at the bars that lie in no inner bracket.
fn alternatives(text: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0_usize, 0);
    for (index, byte) in text.bytes().enumerate() {
        match byte {
            b'(' | b'[' | b'<' => depth += 1,
            b')' | b']' | b'>' => depth -= 1,
            b'|' if depth == 0 => {
                parts.push(&text[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

/// The names of the slots of a template, each once, in order.
pub(crate) fn slots(template: &str) -> Vec<&str> {
    let mut names = Vec::new();
    for part in template.split('{').skip(1) {
        let name = part.split('}').next().unwrap_or_default();
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// Replaces every `{slot}` by what `value` says of it.
pub(crate) fn fill<'v>(template: &str, value: impl Fn(&str) -> &'v str) -> String {
    let mut parts = template.split('{');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (name, rest) = part.split_once('}').unwrap_or((part, ""));
        out.push_str(value(name));
        out.push_str(rest);
    }
    out
}

/// Puts a greeting, a "please" or nothing around a phrase, a capital at its start and a mark at its end.
pub(crate) fn decorate(phrase: &str, rng: &mut ChaCha8Rng) -> String {
    let first_word = phrase.split(' ').next().unwrap_or_default();
    let frames: &[&str] = match first_word {
        "I" => &["{}.", "{}.", "hi, {}.", "hello, {}.", "{}, please."],
        verb if IMPERATIVES.contains(&verb) => {
            &["{}.", "{}.", "{}.", "please {}.", "{}, please.", "can you {}?", "could you {}?", "hi, please {}."]
        }
        _ => &["{}?", "{}?", "{}?", "{}?", "hi, {}?", "hello, {}?", "please tell me, {}?", "quick question: {}?"],
    };
    let sentence = frames.choose(rng).copied().unwrap_or("{}").replace("{}", phrase);
    let mut letters = sentence.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}
