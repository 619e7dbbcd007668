//! Problems with a plans file: what is wrong, where, and what to do about it.

use std::{error::Error, fmt};

/// One problem: the line, the tier and the field where known, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanProblem {
    /// The line, counted from 1.
    pub line: usize,
    /// The tier as the file spells it.
    pub tier: Option<String>,
    /// The field as the file spells it.
    pub field: Option<String>,
    /// What is wrong and what to write instead.
    pub what: String,
}

/// Writes the problem without the file's name: `12: tier "pro": rpo_minutes: 3 is too short: …`.
impl fmt::Display for PlanProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.line)?;
        if let Some(tier) = &self.tier {
            write!(f, "tier {:?}: ", shortened(tier))?;
        }
        if let Some(field) = &self.field {
            write!(f, "{}: ", shortened(field).escape_debug())?;
        }
        f.write_str(&self.what)
    }
}

/// Every problem with a plans file, in the order of its lines. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanProblems {
    file: String,
    problems: Vec<PlanProblem>,
}

impl PlanProblems {
    /// How many problems are written out. A file that does not state plans at all has one on every line.
    const SHOWN: usize = 50;

    pub(super) fn new(mut problems: Vec<PlanProblem>) -> Self {
        problems.sort_by(|a, b| (a.line, &a.tier, &a.field).cmp(&(b.line, &b.tier, &b.field)));
        Self {
            file: "plans.yaml".to_owned(),
            problems,
        }
    }

    pub(super) fn at_line(line: usize, what: impl Into<String>) -> Self {
        Self::new(vec![PlanProblem {
            line,
            tier: None,
            field: None,
            what: what.into(),
        }])
    }

    /// Returns the same problems under the file's own name instead of `plans.yaml`.
    #[must_use]
    pub fn in_file(self, file: impl Into<String>) -> Self {
        Self {
            file: file.into(),
            ..self
        }
    }

    /// Returns the problems one by one.
    pub fn iter(&self) -> impl Iterator<Item = &PlanProblem> {
        self.problems.iter()
    }
}

/// Writes one problem per line, each with the file's name and the line number: `plans.yaml:12: …`.
impl fmt::Display for PlanProblems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().take(Self::SHOWN).enumerate() {
            let end = if index == 0 { "" } else { "\n" };
            write!(f, "{end}{}:{problem}", self.file)?;
        }
        match self.problems.len().saturating_sub(Self::SHOWN) {
            0 => Ok(()),
            more => write!(f, "\n{}: and {more} more problems", self.file),
        }
    }
}

impl Error for PlanProblems {}

/// Returns the text, cut to what fits in a message.
pub(super) fn shortened(text: &str) -> String {
    let limit = 40;
    match text.char_indices().nth(limit) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
    }
}
