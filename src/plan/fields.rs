//! Reads the fields of one mapping: which names are known, and which values are whole numbers.

use std::collections::HashMap;

use super::{
    document::{Node, Value},
    problem::{PlanProblem, shortened},
};

/// The problems found so far.
#[derive(Debug, Default)]
pub(super) struct Problems(pub(super) Vec<PlanProblem>);

/// Where a problem is: a line, and the tier and field if it is in one.
#[derive(Debug, Clone, Copy)]
pub(super) struct At<'a> {
    pub(super) line: usize,
    pub(super) tier: Option<&'a str>,
    pub(super) field: Option<&'a str>,
}

impl<'a> At<'a> {
    pub(super) fn line(line: usize) -> Self {
        Self {
            line,
            tier: None,
            field: None,
        }
    }

    pub(super) fn tier(line: usize, tier: &'a str) -> Self {
        Self {
            line,
            tier: Some(tier),
            field: None,
        }
    }

    pub(super) fn field(self, line: usize, field: &'a str) -> Self {
        Self {
            line,
            field: Some(field),
            ..self
        }
    }
}

impl Problems {
    pub(super) fn add(&mut self, at: At<'_>, what: impl Into<String>) {
        self.0.push(PlanProblem {
            line: at.line,
            tier: at.tier.map(str::to_owned),
            field: at.field.map(str::to_owned),
            what: what.into(),
        });
    }
}

/// One known field: the line of its name, and its value.
#[derive(Debug, Clone, Copy)]
pub(super) struct Field<'a> {
    pub(super) line: usize,
    pub(super) value: &'a Value,
}

/// Returns the known fields by name. Unknown and repeated fields become problems.
pub(super) fn known<'a>(
    at: At<'a>,
    entries: &'a [(Node, Node)],
    known: &[&str],
    problems: &mut Problems,
) -> HashMap<&'a str, Field<'a>> {
    let mut fields: HashMap<&str, Field<'_>> = HashMap::new();
    for (key, value) in entries {
        let Some(name) = name(at, key, problems) else {
            continue;
        };
        let field = at.field(key.line, name);
        if !known.contains(&name) {
            problems.add(field, unknown_field(name, known));
        } else if let Some(first) = fields.get(name) {
            let what = format!("given twice, first on line {}: keep one", first.line);
            problems.add(field, what);
        } else {
            let (line, value) = (key.line, &value.value);
            fields.insert(name, Field { line, value });
        }
    }
    fields
}

/// Returns a key as a name. A merge key, or a key that is not text, becomes a problem.
pub(super) fn name<'a>(at: At<'_>, key: &'a Node, problems: &mut Problems) -> Option<&'a str> {
    let at = At {
        line: key.line,
        ..at
    };
    let Value::Text(name) = &key.value else {
        let shown = described(&key.value);
        problems.add(
            at,
            format!("{shown} cannot be a name: write text in quotes"),
        );
        return None;
    };
    if name == "<<" {
        problems.add(at, "a merge key (<<): remove it, and use same_as");
        return None;
    }
    Some(name)
}

fn unknown_field(name: &str, known: &[&str]) -> String {
    let list = known.join(", ");
    match nearest(name, known.iter().copied()) {
        Some(near) => format!("unknown field: did you mean {near}? The known fields are {list}"),
        None => format!("unknown field: the known fields are {list}"),
    }
}

/// Returns the name that was probably meant.
pub(super) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|candidate| (likeness(name, candidate), candidate))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate)
}

fn likeness(name: &str, candidate: &str) -> f64 {
    let inside = |part: &str, whole: &str| part.len() > 2 && whole.contains(part);
    let name: String = name.chars().take(64).collect::<String>().to_lowercase();
    let spelling = strsim::jaro_winkler(&name, candidate);
    if inside(&name, candidate) || inside(candidate, &name) {
        spelling.max(0.9)
    } else {
        spelling
    }
}

/// Returns a value as a whole number, or what is wrong with it.
pub(super) fn whole(value: &Value) -> Result<i64, String> {
    match value {
        Value::Whole(whole) => Ok(*whole),
        Value::Huge(_) => Err(format!("{} is too large", described(value))),
        Value::Fraction(_) => Err(format!(
            "{} is not a whole number: round it",
            described(value)
        )),
        Value::Text(text) if text.trim().parse::<f64>().is_ok() => Err(format!(
            "{} is text: write the number without quotes",
            described(value)
        )),
        Value::Null
        | Value::Bool(_)
        | Value::Text(_)
        | Value::List(_)
        | Value::Mapping(_)
        | Value::Tagged => Err(format!(
            "{} is not a number: write a whole number without quotes or unit",
            described(value)
        )),
    }
}

/// Returns how a message names the value.
pub(super) fn described(value: &Value) -> String {
    match value {
        Value::Null => "an empty value".to_owned(),
        Value::Bool(truth) => truth.to_string(),
        Value::Whole(whole) => whole.to_string(),
        Value::Huge(shown) => shortened(shown),
        Value::Fraction(fraction) => shortened(&format!("{fraction:?}")),
        Value::Text(text) => format!("{:?}", shortened(text)),
        Value::List(_) => "a list".to_owned(),
        Value::Mapping(_) => "a mapping".to_owned(),
        Value::Tagged => "a tagged value".to_owned(),
    }
}
