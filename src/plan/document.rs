//! Parses YAML into values with line numbers: serde reads the values, a second pass over the parser's events adds the lines.

use std::fmt;

use saphyr_parser::{Event, Parser, Span};
use serde::{
    Deserialize, Deserializer,
    de::{EnumAccess, IgnoredAny, MapAccess, SeqAccess, VariantAccess, Visitor},
};

use super::problem::PlanProblem;

/// One value and the line that it begins on, counted from 1.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) line: usize,
    pub(super) value: Value,
}

/// A value. Unlike serde's own, a mapping keeps its order and its duplicate keys, so that they can be reported.
#[derive(Debug)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Whole(i64),
    /// A whole number of more than 64 bits, as it was written.
    Huge(String),
    Fraction(f64),
    Text(String),
    List(Vec<Node>),
    Mapping(Vec<(Node, Node)>),
    Tagged,
}

/// Returns the text's first document, with a problem for everything that is not plain YAML. Fails if there is no readable document.
pub(super) fn read(text: &str) -> Result<(Node, Vec<PlanProblem>), PlanProblem> {
    let mut root = values(text)?;
    let mut lines = Lines {
        events: Parser::new_from_str(text),
        problems: Vec::new(),
        broken: false,
    };
    lines.stream(&mut root);
    Ok((root, lines.problems))
}

fn values(text: &str) -> Result<Node, PlanProblem> {
    let nothing = || problem(1, "the file is empty: it needs version and tiers");
    let document = serde_yaml::Deserializer::from_str(text)
        .next()
        .ok_or_else(nothing)?;
    Node::deserialize(document).map_err(|why| {
        let line = why.location().map_or(1, |location| location.line());
        problem(line, format!("not readable as YAML: {why}"))
    })
}

fn problem(line: usize, what: impl Into<String>) -> PlanProblem {
    PlanProblem {
        line,
        tier: None,
        field: None,
        what: what.into(),
    }
}

/// Walks the parser's events alongside the values, which come in the same order.
struct Lines<'a> {
    events: Parser<'a, saphyr_parser::StrInput<'a>>,
    problems: Vec<PlanProblem>,
    broken: bool,
}

impl<'a> Lines<'a> {
    fn stream(&mut self, root: &mut Node) {
        let mut documents = 0;
        while let Some((event, line)) = self.next() {
            if !matches!(event, Event::DocumentStart(_)) {
                continue;
            }
            documents += 1;
            if documents == 1 {
                self.node(root);
            } else {
                self.refuse(
                    line,
                    "a second document begins here: keep only one, without another `---`",
                );
            }
        }
    }

    fn node(&mut self, node: &mut Node) {
        let Some((event, line)) = self.next() else {
            return;
        };
        node.place(line);
        if !begins_collection(&event) {
            return;
        }
        match &mut node.value {
            Value::Mapping(entries) if matches!(event, Event::MappingStart(..)) => {
                for (key, value) in entries {
                    self.node(key);
                    self.node(value);
                }
            }
            Value::List(items) if matches!(event, Event::SequenceStart(..)) => {
                for item in items {
                    self.node(item);
                }
            }
            Value::Null
            | Value::Bool(_)
            | Value::Whole(_)
            | Value::Huge(_)
            | Value::Fraction(_)
            | Value::Text(_)
            | Value::List(_)
            | Value::Mapping(_)
            | Value::Tagged => {}
        }
        self.rest_of_collection();
    }

    /// Skips to the end of the current collection, past everything that has no value to go with it.
    fn rest_of_collection(&mut self) {
        let mut depth = 1;
        while let Some((event, _)) = self.next() {
            if begins_collection(&event) {
                depth += 1;
            } else if matches!(event, Event::MappingEnd | Event::SequenceEnd) {
                depth -= 1;
                if depth == 0 {
                    return;
                }
            }
        }
    }

    fn next(&mut self) -> Option<(Event<'a>, usize)> {
        if self.broken {
            return None;
        }
        match self.events.next_event()? {
            Ok((event, span)) => {
                self.refuse_indirection(&event, span);
                Some((event, span.start.line()))
            }
            Err(why) => {
                self.broken = true;
                let line = why.marker().line();
                self.refuse(line, &format!("not readable as YAML: {}", why.info()));
                None
            }
        }
    }

    fn refuse_indirection(&mut self, event: &Event<'_>, span: Span) {
        let line = span.start.line();
        let (anchor, tag) = match event {
            Event::Alias(_) => {
                return self.refuse(
                    line,
                    "an alias (*name): write the value out, or use same_as",
                );
            }
            Event::Scalar(_, _, anchor, tag)
            | Event::SequenceStart(anchor, tag)
            | Event::MappingStart(anchor, tag) => (*anchor, tag.is_some()),
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd
            | Event::SequenceEnd
            | Event::MappingEnd => return,
        };
        if anchor != 0 {
            self.refuse(line, "an anchor (&name): remove it, and use same_as");
        }
        if tag {
            self.refuse(line, "a tag (!name): remove it");
        }
    }

    fn refuse(&mut self, line: usize, what: &str) {
        self.problems.push(problem(line, what));
    }
}

impl Node {
    /// Sets the line of the value and, until their own events come, of everything in it.
    fn place(&mut self, line: usize) {
        self.line = line;
        match &mut self.value {
            Value::List(items) => items.iter_mut().for_each(|item| item.place(line)),
            Value::Mapping(entries) => {
                for (key, value) in entries {
                    key.place(line);
                    value.place(line);
                }
            }
            Value::Null
            | Value::Bool(_)
            | Value::Whole(_)
            | Value::Huge(_)
            | Value::Fraction(_)
            | Value::Text(_)
            | Value::Tagged => {}
        }
    }
}

fn begins_collection(event: &Event<'_>) -> bool {
    matches!(event, Event::MappingStart(..) | Event::SequenceStart(..))
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = deserializer.deserialize_any(Anything)?;
        Ok(Self { line: 1, value })
    }
}

struct Anything;

impl<'de> Visitor<'de> for Anything {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Whole(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(i64::try_from(value).map_or_else(|_| Value::Huge(value.to_string()), Value::Whole))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Value, E> {
        Ok(Value::Huge(value.to_string()))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Value, E> {
        Ok(Value::Huge(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Fraction(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut mapping = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            mapping.push(entry);
        }
        Ok(Value::Mapping(mapping))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, tagged: A) -> Result<Value, A::Error> {
        let (IgnoredAny, variant) = tagged.variant()?;
        variant.newtype_variant::<IgnoredAny>()?;
        Ok(Value::Tagged)
    }
}
