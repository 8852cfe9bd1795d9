//! Something that the server was asked for: what it said last, and whether it must be asked again.

use crate::event::Failed;

/// Something that the server was asked for.
#[derive(Clone, Debug)]
pub(super) struct Fetched<T> {
    /// What it said last.
    value: Option<T>,
    /// Why the last question was not answered.
    error: Option<String>,
    is_old: bool,
    is_asked: bool,
}

impl<T> Default for Fetched<T> {
    fn default() -> Self {
        Self { value: None, error: None, is_old: true, is_asked: false }
    }
}

impl<T> Fetched<T> {
    /// What the server said last.
    pub(super) fn value(&self) -> Option<&T> {
        self.value.as_ref()
    }

    /// The same, to add to it.
    pub(super) fn value_mut(&mut self) -> Option<&mut T> {
        self.value.as_mut()
    }

    /// Why the last question was not answered.
    pub(super) fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }

    /// Whether what is known is what there is, as far as anybody said.
    pub(super) fn is_current(&self) -> bool {
        !self.is_old && !self.is_asked
    }

    /// Notes that it may be something else by now.
    pub(super) fn outdate(&mut self) {
        self.is_old = true;
    }

    /// Notes that a question that is under way may never be answered.
    pub(super) fn lose(&mut self) {
        self.is_old = true;
        self.is_asked = false;
    }

    /// Whether to ask now; then the question counts as asked. A question that was not answered is
    /// not asked again before there is a reason.
    pub(super) fn begin(&mut self) -> bool {
        let is_due = self.is_old && !self.is_asked;
        if is_due {
            self.is_old = false;
            self.is_asked = true;
        }
        is_due
    }

    /// Takes an answer.
    pub(super) fn take(&mut self, answer: Result<T, Failed>) {
        self.is_asked = false;
        match answer {
            Ok(value) => {
                self.value = Some(value);
                self.error = None;
            }
            Err(failed) => self.error = Some(failed.text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed() -> Failed {
        Failed { text: "no".to_owned(), request_id: None, field: None }
    }

    #[test]
    fn one_question_is_under_way_at_a_time() {
        let mut fetched = Fetched::default();
        assert!(fetched.begin());
        fetched.outdate();
        assert!(!fetched.begin());
        fetched.take(Ok(1));
        assert!(fetched.begin());
        fetched.take(Ok(2));
        assert!(!fetched.begin());
        assert_eq!(fetched.value(), Some(&2));
    }

    #[test]
    fn what_failed_keeps_what_was_known_and_waits_for_a_reason() {
        let mut fetched = Fetched::default();
        fetched.begin();
        fetched.take(Ok(1));
        fetched.outdate();
        fetched.begin();
        fetched.take(Err(failed()));
        assert_eq!((fetched.value(), fetched.error()), (Some(&1), Some("no")));
        assert!(!fetched.begin());
        fetched.lose();
        assert!(fetched.begin());
        fetched.take(Ok(3));
        assert_eq!(fetched.error(), None);
    }
}
