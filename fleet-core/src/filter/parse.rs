//! The grammar, from left to right in one go. Every refusal says where, and how it is written.

use std::ops::Range;

use super::Words;
use super::error::{FilterError, hidden, quoted};
use super::pattern::Word;
use super::scan::{Scanner, is_keyword, meant_keyword};
use super::tree::{Node, Op, Target, Term};
use super::value::{Misfit, Value, check_operator};
use crate::field::{Field, Kind};
use crate::limits::{FILTER_BYTES_MAX, FILTER_DEPTH_MAX};
use crate::untrusted::is_dangerous;

/// Characters of advice that repeats what was typed; beyond that it is general.
const ADVICE_CHARS_MAX: usize = 80;

/// Reads a whole filter.
pub(super) fn parse(text: &str, words: Words) -> Result<Node, FilterError> {
    check_text(text)?;
    let mut parser = Parser { scanner: Scanner::new(text), words };
    parser.scanner.skip_space();
    if parser.scanner.peek().is_none() {
        return Ok(Node::everything());
    }
    let node = parser.alternatives(0)?;
    if parser.scanner.peek().is_some() {
        return Err(parser.fault_here("this bracket closes nothing"));
    }
    // Its one spelling has to read back too.
    let spelled = node.to_string().len();
    if spelled > FILTER_BYTES_MAX {
        let message =
            format!("written out, the filter has {spelled} bytes, at most {FILTER_BYTES_MAX}");
        return Err(FilterError::new(text, 0..text.len(), message));
    }
    Ok(node)
}

/// What no filter is, wherever it stands.
fn check_text(text: &str) -> Result<(), FilterError> {
    if text.len() > FILTER_BYTES_MAX {
        let starts = text.char_indices().map(|(start, _)| start);
        let start = starts.take_while(|start| *start <= FILTER_BYTES_MAX).last().unwrap_or(0);
        let message = format!("a filter has at most {FILTER_BYTES_MAX} bytes");
        return Err(FilterError::new(text, start..text.len(), message));
    }
    let is_hidden = |c: char| is_dangerous(c) && !matches!(c, '\t' | '\r' | '\n');
    match text.char_indices().find(|(_, c)| is_hidden(*c)) {
        Some((start, c)) => Err(hidden(text, start..start + c.len_utf8())),
        None => Ok(()),
    }
}

struct Parser<'a> {
    scanner: Scanner<'a>,
    words: Words,
}

/// A value as it stands in the text.
struct RawValue {
    text: String,
    at: Range<usize>,
}

impl Parser<'_> {
    /// Terms joined by `or`, up to a closing bracket or the end.
    fn alternatives(&mut self, depth: usize) -> Result<Node, FilterError> {
        let mut nodes = vec![self.sequence(depth)?];
        while self.scanner.eat_keyword("or") {
            nodes.push(self.sequence(depth)?);
        }
        Ok(Node::any(nodes))
    }

    /// Terms joined by `and` or by a space.
    fn sequence(&mut self, depth: usize) -> Result<Node, FilterError> {
        let mut nodes = vec![self.negated(depth)?];
        loop {
            let mut ahead = self.scanner;
            let is_end = matches!(ahead.peek(), None | Some(')')) || ahead.eat_keyword("or");
            if is_end {
                return Ok(Node::every(nodes));
            }
            self.scanner.eat_keyword("and");
            nodes.push(self.negated(depth)?);
        }
    }

    /// A term or brackets, maybe turned into their contrary. Goes past the space behind.
    fn negated(&mut self, depth: usize) -> Result<Node, FilterError> {
        self.scanner.skip_space();
        let start = self.scanner.at();
        if self.scanner.eat('!') || self.scanner.eat_keyword("not") {
            self.check_depth(depth, start)?;
            return Ok(Node::Not(Box::new(self.negated(depth + 1)?)));
        }
        let node = if self.scanner.eat('(') {
            self.check_depth(depth, start)?;
            let node = self.alternatives(depth + 1)?;
            if !self.scanner.eat(')') {
                let message = "this bracket is not closed";
                return Err(self.scanner.fault(start..start + 1, message));
            }
            node
        } else {
            Node::Term(self.term()?)
        };
        self.scanner.skip_space();
        Ok(node)
    }

    fn check_depth(&self, depth: usize, start: usize) -> Result<(), FilterError> {
        if depth < FILTER_DEPTH_MAX {
            return Ok(());
        }
        let message = format!("brackets and nots go {FILTER_DEPTH_MAX} deep at most");
        Err(self.scanner.fault(start..self.scanner.at(), message))
    }

    fn term(&mut self) -> Result<Term, FilterError> {
        let start = self.scanner.at();
        if self.scanner.peek() == Some('"') {
            let text = self.scanner.quoted()?;
            return self.word(&text, start..self.scanner.at());
        }
        if self.scanner.eat_keyword("has") {
            return self.has(start..self.scanner.at());
        }
        let name = self.scanner.name();
        if name.is_empty() || is_keyword(name) {
            return Err(self.no_term(start, name));
        }
        // An entry's name in quotes can be any text.
        let entry = self.quoted_entry(name)?;
        let target = entry.map_or_else(|| target(name), Target::Entry);
        let at = start..self.scanner.at();
        let behind = self.scanner;
        self.scanner.skip_space();
        let sign = self.scanner.here();
        if self.scanner.eat(':') {
            return self.tag(target, at, sign);
        }
        if let Some(op) = self.scanner.eat_operator() {
            let sign = sign.start..self.scanner.at();
            return self.comparison(target, at, op, sign);
        }
        if self.scanner.eat_keyword("in") {
            return self.list(target, at);
        }
        self.scanner = behind;
        if let Some(keyword) = meant_keyword(name) {
            let error = self.scanner.fault(at, format!("{name} means nothing here"));
            return Err(error.hint(format!("write {keyword}")));
        }
        self.word(name, at)
    }

    /// What comes after `has`.
    fn has(&mut self, has: Range<usize>) -> Result<Term, FilterError> {
        self.scanner.skip_space();
        let start = self.scanner.at();
        let name = self.scanner.name();
        if name.is_empty() || is_keyword(name) {
            let error = self.scanner.fault(has, "has is followed by a field or an entry");
            return Err(error.hint("write it like has site"));
        }
        let entry = self.quoted_entry(name)?;
        let target = entry.map_or_else(|| target(name), Target::Entry);
        self.check_target(&target, start..self.scanner.at())?;
        self.check_end()?;
        Ok(Term::Has(target))
    }

    /// What comes after `tag:`.
    fn tag(
        &mut self,
        target: Target,
        at: Range<usize>,
        colon: Range<usize>,
    ) -> Result<Term, FilterError> {
        if target.kind() != Kind::Words {
            let name = quoted(&target.to_string());
            let error = self.scanner.fault(colon, format!("{name} takes no colon"));
            return Err(error.hint(format!("write it like {name}=x")));
        }
        self.comparison(target, at, Op::Equal, colon)
    }

    /// What comes after `field op`.
    fn comparison(
        &mut self,
        target: Target,
        at: Range<usize>,
        op: Op,
        sign: Range<usize>,
    ) -> Result<Term, FilterError> {
        self.check_target(&target, at)?;
        check_operator(&target, op).map_err(|misfit| self.misfit(misfit, sign.clone()))?;
        if matches!(self.scanner.peek(), Some('=' | '~' | '<' | '>')) {
            let at = sign.start..self.scanner.here().end;
            let error = self.scanner.fault(at, "there is no such operator");
            return Err(error.hint("operators are = != < <= > >= ~ and in"));
        }
        let raw = self.value(sign)?;
        let value = self.read(&target, op, &raw)?;
        if self.scanner.peek() == Some(',') {
            return Err(self.several(&target, op, raw.text));
        }
        self.check_end()?;
        Ok(Term::Compare(target, op, value))
    }

    /// What comes after `field in`.
    fn list(&mut self, target: Target, at: Range<usize>) -> Result<Term, FilterError> {
        self.check_target(&target, at.clone())?;
        let sign = at.start..self.scanner.at();
        check_operator(&target, Op::Equal).map_err(|misfit| self.misfit(misfit, sign.clone()))?;
        self.scanner.skip_space();
        let open = self.scanner.here();
        if !self.scanner.eat('(') {
            let error = self.scanner.fault(sign, "in is followed by a list");
            let name = quoted(&target.to_string());
            return Err(error.hint(format!("write it like {name} in (a,b)")));
        }
        let mut values = Vec::new();
        loop {
            let raw = self.value(open.clone())?;
            values.push(self.read(&target, Op::Equal, &raw)?);
            self.scanner.skip_space();
            if self.scanner.eat(')') {
                return Ok(Term::In(target, values));
            }
            if !self.scanner.eat(',') {
                if self.scanner.peek().is_none() {
                    return Err(self.scanner.fault(open, "this list is not closed"));
                }
                let error = self.fault_here("a comma is missing here");
                return Err(error.hint("values with spaces stand in quotes"));
            }
        }
    }

    /// A value, which must be there; `after` is where it was announced.
    fn value(&mut self, after: Range<usize>) -> Result<RawValue, FilterError> {
        self.scanner.skip_space();
        let start = self.scanner.at();
        let text = match self.scanner.peek() {
            Some('"') => self.scanner.quoted()?,
            Some('\'') => {
                let error = self.fault_here("this quote is none here");
                return Err(error.hint("put values in \"…\""));
            }
            _ => match self.scanner.bare_value() {
                "" => {
                    let error = self.scanner.fault(after, "a value is missing after this");
                    return Err(error.hint("an empty one is \"\""));
                }
                text => text.to_owned(),
            },
        };
        Ok(RawValue { text, at: start..self.scanner.at() })
    }

    fn read(&self, target: &Target, op: Op, raw: &RawValue) -> Result<Value, FilterError> {
        let value = Value::read(target, op, &raw.text);
        value.map_err(|misfit| self.misfit(misfit, raw.at.clone()))
    }

    /// A word that stands alone.
    fn word(&mut self, word: &str, at: Range<usize>) -> Result<Term, FilterError> {
        self.check_end()?;
        if self.words == Words::Fuzzy {
            return Ok(Term::Word(Word::new(word)));
        }
        let target = target(word);
        self.check_target(&target, at.clone())?;
        let error = self.scanner.fault(at, format!("{} is compared with nothing", quoted(word)));
        let hint = match target {
            Target::Field(field) => format!("write it like has {field}, or compare it"),
            Target::Entry(_) if word.chars().count() > ADVICE_CHARS_MAX => {
                "write it like name~pump".to_owned()
            }
            Target::Entry(_) => {
                let like = |field| spelled(&Target::Field(field), Op::Like, word);
                format!("write {} or {}", like(Field::Name), like(Field::Device))
            }
        };
        Err(error.hint(hint))
    }

    /// Why no term begins here. `name` is what stands here if it is a word at all.
    fn no_term(&self, start: usize, name: &str) -> FilterError {
        let at = start..self.scanner.at();
        if !name.is_empty() {
            return self.scanner.fault(at, format!("a term is missing before {name}"));
        }
        match self.scanner.peek() {
            None => self.scanner.fault(at, "a term is missing here"),
            Some(')') => self.fault_here("a term is missing before this bracket"),
            Some(',') => self.stray_comma(),
            Some(_) => self.fault_here("a field is missing before this"),
        }
    }

    /// The name between the quotes after `metadata.`, if there are any.
    fn quoted_entry(&mut self, name: &str) -> Result<Option<String>, FilterError> {
        if name.eq_ignore_ascii_case("metadata.") && self.scanner.peek() == Some('"') {
            return self.scanner.quoted().map(Some);
        }
        Ok(None)
    }

    /// The metadata as a whole holds too much to be compared.
    fn check_target(&self, target: &Target, at: Range<usize>) -> Result<(), FilterError> {
        if *target != Target::Field(Field::Metadata) {
            return Ok(());
        }
        let error = self.scanner.fault(at, "metadata is compared entry by entry");
        Err(error.hint("write it like site=lyon or metadata.site=lyon"))
    }

    /// What was read must not go on without a space.
    fn check_end(&self) -> Result<(), FilterError> {
        match self.scanner.peek() {
            None | Some(')') => Ok(()),
            Some(c) if c.is_whitespace() => Ok(()),
            Some(',') => Err(self.stray_comma()),
            Some(_) => {
                let error = self.fault_here("this stands right behind a word");
                Err(error.hint("put a space between, or a value in quotes"))
            }
        }
    }

    /// Several values with commas, as other languages have them.
    fn several(&mut self, target: &Target, op: Op, first: String) -> FilterError {
        let error = self.stray_comma();
        let mut values = vec![first];
        while self.scanner.eat(',') {
            let Ok(value) = self.value(self.scanner.here()) else { break };
            values.push(value.text);
        }
        let all = |between: &str, each: &dyn Fn(&String) -> String| {
            values.iter().map(each).collect::<Vec<_>>().join(between)
        };
        let list = all(",", &|value| Value::text(op, value).to_string());
        let hint = match op {
            Op::Equal => format!("write {target} in ({list})"),
            Op::Unequal => format!("write not {target} in ({list})"),
            _ => format!("write ({})", all(" or ", &|value| spelled(target, op, value))),
        };
        if hint.chars().count() > ADVICE_CHARS_MAX { error } else { error.hint(hint) }
    }

    fn stray_comma(&self) -> FilterError {
        let error = self.fault_here("commas stand in lists only");
        error.hint("write and, or, or a list like site in (a,b)")
    }

    fn misfit(&self, misfit: Misfit, at: Range<usize>) -> FilterError {
        let error = self.scanner.fault(at, misfit.message);
        match misfit.hint {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }

    fn fault_here(&self, message: &str) -> FilterError {
        self.scanner.fault(self.scanner.here(), message)
    }
}

/// What a name means.
fn target(name: &str) -> Target {
    const PREFIX: &str = "metadata.";
    if let Some(field) = Field::named(&name.to_ascii_lowercase()) {
        return Target::Field(field);
    }
    match name.split_at_checked(PREFIX.len()) {
        Some((prefix, entry)) if prefix.eq_ignore_ascii_case(PREFIX) => {
            Target::Entry(entry.to_owned())
        }
        _ => Target::Entry(name.to_owned()),
    }
}

/// A comparison with a text, for advice.
fn spelled(target: &Target, op: Op, value: &str) -> String {
    Term::Compare(target.clone(), op, Value::text(op, value)).to_string()
}
