//! Which questions of a data set are asked. No chance: the same file gives the same questions.

use std::collections::BTreeMap;

use text2sql_generator::files::Line;

/// Up to `count` lines, of intents that lie evenly in the alphabet; of each intent the first line that is `suitable`.
pub(crate) fn choose(lines: &[Line], count: usize, suitable: impl Fn(&Line) -> bool) -> Vec<&Line> {
    let mut intents: BTreeMap<&str, Vec<&Line>> = BTreeMap::new();
    for line in lines {
        intents.entry(&line.intent).or_default().push(line);
    }
    let groups: Vec<Vec<&Line>> = intents.into_values().collect();
    let count = count.min(groups.len());
    let places = (0..count).map(|index| (2 * index + 1) * groups.len() / (2 * count));
    places.filter_map(|place| first_suitable(&groups[place], &suitable)).collect()
}

fn first_suitable<'l>(group: &[&'l Line], suitable: impl Fn(&Line) -> bool) -> Option<&'l Line> {
    group.iter().find(|line| suitable(line)).or(group.first()).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(intents: &[&str]) -> Vec<Line> {
        let line = |(index, intent): (usize, &&str)| Line {
            prompt: format!("{index}\n"),
            completion: String::new(),
            intent: (*intent).to_owned(),
        };
        intents.iter().enumerate().map(line).collect()
    }

    #[test]
    fn questions_are_spread_over_intents_and_the_first_suitable_ones() {
        let lines = lines(&["a", "b", "b", "c", "d", "e", "f", "a"]);
        let chosen = choose(&lines, 3, |line| line.prompt != "1\n");
        let prompts: Vec<&str> = chosen.iter().map(|line| line.prompt.trim()).collect();
        assert_eq!(prompts, ["2", "4", "6"]);
    }

    #[test]
    fn no_more_questions_than_intents_and_an_unsuitable_one_rather_than_none() {
        let lines = lines(&["a", "a", "b"]);
        assert_eq!(choose(&lines, 9, |_| false).len(), 2);
        assert!(choose(&[], 3, |_| true).is_empty());
    }
}
