//! Conditions as a list-map: set one, read one. A transition time changes only with the status.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;

/// Whether something is true.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truth {
    /// It is.
    True,
    /// It is not.
    False,
    /// Nobody can tell yet.
    Unknown,
}

impl Truth {
    /// As conditions spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

impl From<bool> for Truth {
    fn from(value: bool) -> Self {
        if value { Self::True } else { Self::False }
    }
}

/// The conditions of a status while it is derived.
#[derive(Clone, Debug)]
pub struct Conditions {
    list: Vec<Condition>,
    generation: Option<i64>,
    now: Timestamp,
}

impl Conditions {
    /// Starts from what the status said before.
    pub fn from_previous(previous: &[Condition], generation: Option<i64>, now: Timestamp) -> Self {
        Self { list: previous.to_vec(), generation, now }
    }

    /// Sets one condition; the message is one sentence, cut at 1024 bytes.
    pub fn set(&mut self, type_: &str, truth: impl Into<Truth>, reason: &str, message: impl Into<String>) {
        let status = truth.into().as_str();
        let previous = self.list.iter().find(|condition| condition.type_ == type_);
        let unchanged_since =
            previous.filter(|condition| condition.status == status).map(|condition| &condition.last_transition_time);
        let condition = Condition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message: shortened(message.into()),
            observed_generation: self.generation,
            last_transition_time: unchanged_since.cloned().unwrap_or(Time(self.now)),
        };
        match self.list.iter_mut().find(|condition| condition.type_ == type_) {
            Some(existing) => *existing = condition,
            None => self.list.push(condition),
        }
    }

    /// The condition of that type, as it is so far.
    pub fn get(&self, type_: &str) -> Option<&Condition> {
        find(&self.list, type_)
    }

    /// Removes a condition that does not apply to this spec.
    pub fn remove(&mut self, type_: &str) {
        self.list.retain(|condition| condition.type_ != type_);
    }

    /// The conditions.
    pub fn into_list(self) -> Vec<Condition> {
        self.list
    }
}

/// Whether the condition of that type is `True`.
pub fn is_true(conditions: &[Condition], type_: &str) -> bool {
    find(conditions, type_).is_some_and(|condition| condition.status == Truth::True.as_str())
}

/// The condition of that type.
pub fn find<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == type_)
}

/// Cut at 1024 bytes, which is what conditions and Events may have.
pub(crate) fn shortened(mut message: String) -> String {
    const LIMIT: usize = 1024;
    if message.len() > LIMIT {
        let mut end = LIMIT - '…'.len_utf8();
        while !message.is_char_boundary(end) {
            end -= 1;
        }
        message.truncate(end);
        message.push('…');
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transition_time_changes_only_with_the_status() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut first = Conditions::from_previous(&[], Some(1), at(10));
        first.set("Ready", false, "Loading", "Loading.");
        let first = first.into_list();
        let mut second = Conditions::from_previous(&first, Some(2), at(20));
        second.set("Ready", false, "Progressing", "Still.");
        let second = second.into_list();
        assert_eq!(second[0].last_transition_time.0, at(10));
        assert_eq!((second[0].reason.as_str(), second[0].observed_generation), ("Progressing", Some(2)));
        let mut third = Conditions::from_previous(&second, Some(2), at(30));
        third.set("Ready", true, "AsDeclared", "Done.");
        assert_eq!(third.into_list()[0].last_transition_time.0, at(30));
    }

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let mut conditions = Conditions::from_previous(&[], None, Timestamp::UNIX_EPOCH);
        conditions.set("Ready", Truth::Unknown, "Loading", "ä".repeat(2000));
        let message = &conditions.into_list()[0].message;
        assert!(message.len() <= 1024 && message.ends_with("ä…"), "{}", message.len());
    }
}
