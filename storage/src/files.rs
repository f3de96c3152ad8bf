//! Which files a checkpoint needs, and which names are safe to write. No disk, no network.

use crate::error::{Result, StorageError};

const PLAIN: [&str; 6] = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
];
const INDEX: &str = ".safetensors.index.json";
const WEIGHTS: &str = ".safetensors";
/// One file with everything in it.
pub(crate) const GGUF: &str = ".gguf";

/// Whether a checkpoint may need the file: never pickles, never code.
pub(crate) fn belongs_to_checkpoint(name: &str) -> bool {
    is_safe(name) && (PLAIN.contains(&name) || [WEIGHTS, INDEX, GGUF].iter().any(|ending| name.ends_with(ending)))
}

/// Of the files of a place those that a checkpoint needs, or the GGUF file that was named. Refuses a place without them.
pub(crate) fn checkpoint<T>(
    place: &str,
    mut files: Vec<T>,
    named: Option<&str>,
    name: fn(&T) -> &str,
) -> Result<Vec<T>> {
    if let Some(named) = named {
        check_named(place, named, &files, name)?;
        files.retain(|file| name(file) == named);
        return Ok(files);
    }
    let found = files.len();
    let kept = of_checkpoint(files, name);
    check_checkpoint(place, found, &kept.iter().map(name).collect::<Vec<_>>())?;
    Ok(kept)
}

/// Of the files of a folder those that a checkpoint needs: safetensors with what belongs to them, and where there are
/// `model*.safetensors`, no other weights (adapters, the same weights once more under another name); without safetensors GGUF files.
pub(crate) fn of_checkpoint<T>(files: Vec<T>, name: fn(&T) -> &str) -> Vec<T> {
    let is_weights = |name: &str| name.ends_with(WEIGHTS) || name.ends_with(INDEX);
    let is_model = |name: &str| is_weights(name) && name.starts_with("model");
    let is_gguf = |file: &T| name(file).ends_with(GGUF);
    let mut kept: Vec<T> = files.into_iter().filter(|file| belongs_to_checkpoint(name(file))).collect();
    if kept.iter().any(|file| name(file).ends_with(WEIGHTS)) {
        kept.retain(|file| !is_gguf(file));
    } else if kept.iter().any(is_gguf) {
        kept.retain(is_gguf);
    }
    if kept.iter().any(|file| is_model(name(file))) {
        kept.retain(|file| !is_weights(name(file)) || is_model(name(file)));
    }
    kept
}

/// Refuses a source that has neither one GGUF file nor the three things that every other checkpoint has.
pub(crate) fn check_checkpoint(place: &str, found: usize, names: &[&str]) -> Result<()> {
    let ggufs: Vec<&str> = names.iter().copied().filter(|name| name.ends_with(GGUF)).collect();
    if ggufs.len() == names.len() && !names.is_empty() {
        return if ggufs.len() == 1 { Ok(()) } else { Err(several(place, &ggufs)) };
    }
    let mut missing = Vec::new();
    missing.extend((!names.contains(&"config.json")).then_some("config.json"));
    missing.extend((!names.contains(&"tokenizer.json")).then_some("tokenizer.json"));
    missing.extend((!names.iter().any(|name| name.ends_with(WEIGHTS))).then_some("*.safetensors"));
    if missing.is_empty() {
        return Ok(());
    }
    Err(StorageError::Unusable {
        place: place.to_owned(),
        problem: format!(
            "is no checkpoint: of its {found} files none is {}, or a GGUF file instead; name the place of a checkpoint (pickles such as \
             *.bin and *.pt are never read: convert them to safetensors)",
            missing.join(", ")
        ),
    })
}

/// Refuses a file that is not there, with those that are.
fn check_named<T>(place: &str, named: &str, files: &[T], name: fn(&T) -> &str) -> Result<()> {
    if files.iter().any(|file| name(file) == named) {
        return Ok(());
    }
    let ggufs: Vec<&str> = files.iter().map(name).filter(|name| name.ends_with(GGUF)).collect();
    let there =
        if ggufs.is_empty() { "it has no GGUF file".to_owned() } else { format!("it has {}", ggufs.join(", ")) };
    Err(StorageError::Unusable { place: place.to_owned(), problem: format!("has no file {named}; {there}") })
}

fn several(place: &str, names: &[&str]) -> StorageError {
    StorageError::Unusable {
        place: place.to_owned(),
        problem: format!(
            "has {} GGUF files: {}; name the one to take (hf://ORG/NAME/FILE.gguf, s3://BUCKET/PATH/FILE.gguf). Models in several GGUF files \
             are not read",
            names.len(),
            names.join(", ")
        ),
    }
}

/// A plain name that can be a file in any folder.
pub(crate) fn is_safe(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 200
        && !name.starts_with('.')
        && name.chars().all(|character| character.is_ascii_alphanumeric() || "._-+=@~ ".contains(character))
}

/// Whether a name fits a pattern whose `*` stand for any characters.
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((before, after)) => name.strip_prefix(before).is_some_and(|rest| {
            (0..=rest.len()).filter(|&end| rest.is_char_boundary(end)).any(|end| matches(after, &rest[end..]))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_a_checkpoint_and_nothing_else() {
        let names = |files: &[&'static str]| of_checkpoint(files.to_vec(), |name| name).join(" ");
        let both = ["config.json", "a.gguf", "model.safetensors", "b.gguf"];
        assert_eq!(names(&both), "config.json model.safetensors");
        let named = |file| checkpoint("s3://a/b", both.to_vec(), Some(file), |name| name);
        assert_eq!(named("b.gguf").unwrap(), ["b.gguf"]);
        assert!(named("c.gguf").is_err());
        assert_eq!(names(&["README.md", "config.json", "a.gguf"]), "a.gguf");
        assert_eq!(
            names(&[
                "README.md",
                "config.json",
                "pytorch_model.bin",
                "model.safetensors",
                "adapter_model.safetensors",
                "x.py"
            ]),
            "config.json model.safetensors"
        );
        let described = [
            "config.json",
            "generation_config.json",
            "tokenizer.json",
            "tokenizer_config.json",
            "special_tokens_map.json",
            "chat_template.jinja",
        ];
        assert_eq!(names(&described), described.join(" "), "whatever the engine reads beside weights");
        assert_eq!(
            names(&["weights-1.safetensors", "weights.safetensors.index.json"]),
            "weights-1.safetensors weights.safetensors.index.json"
        );
        assert_eq!(
            names(&["model-00001-of-00002.safetensors", "consolidated.safetensors", "model.safetensors.index.json"]),
            "model-00001-of-00002.safetensors model.safetensors.index.json"
        );
        for hostile in ["../config.json", "a/config.json", ".config.json", "", "model\n.safetensors", "x\0.safetensors"]
        {
            assert!(!belongs_to_checkpoint(hostile), "{hostile:?}");
        }
    }

    #[test]
    fn what_is_missing_is_said() {
        let check = |names: &[&'static str]| check_checkpoint("hf://a/b", 3, names);
        check(&["config.json", "tokenizer.json", "model.safetensors"]).unwrap();
        let error = check(&["config.json"]).unwrap_err().to_string();
        assert!(error.contains("tokenizer.json, *.safetensors") && error.contains("pickles"), "{error}");
        check(&["a.gguf"]).unwrap();
        let error = check(&["a.gguf", "b.gguf"]).unwrap_err().to_string();
        assert!(error.contains("2 GGUF files: a.gguf, b.gguf") && error.contains("FILE.gguf"), "{error}");
    }

    #[test]
    fn patterns() {
        for (pattern, name, expected) in [
            ("*.jsonl", "a.jsonl", true),
            ("*.jsonl", "a.jsonl.gz", false),
            ("train-*.jsonl*", "train-1.jsonl.gz", true),
            ("a", "a", true),
            ("a*a", "a", false),
            ("*", "ö", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
