//! Formulas of `and`, `or` and `not`.
//!
//! In: parts. Out: a formula without what changes nothing. It must not reorder them.

/// A formula. `All` of nothing is always true, `Any` of nothing never; neither is inside another formula.
#[derive(Clone, Debug, PartialEq)]
pub enum Logic<T> {
    /// This holds.
    Is(T),
    /// It does not.
    Not(Box<Self>),
    /// All of them hold.
    All(Vec<Self>),
    /// One of them at least does.
    Any(Vec<Self>),
}

impl<T> Logic<T> {
    pub const ALWAYS: Self = Self::All(Vec::new());
    pub const NEVER: Self = Self::Any(Vec::new());

    pub fn not(self) -> Self {
        match self {
            Self::Not(inner) => *inner,
            Self::All(parts) if parts.is_empty() => Self::NEVER,
            Self::Any(parts) if parts.is_empty() => Self::ALWAYS,
            other => Self::Not(Box::new(other)),
        }
    }

    pub fn all(parts: impl IntoIterator<Item = Self>) -> Self {
        let mut flat = Vec::new();
        for part in parts {
            match part {
                Self::All(inner) => flat.extend(inner),
                never @ Self::Any(_) if never.is_never() => return never,
                other => flat.push(other),
            }
        }
        if flat.len() == 1 { flat.remove(0) } else { Self::All(flat) }
    }

    pub fn any(parts: impl IntoIterator<Item = Self>) -> Self {
        let mut flat = Vec::new();
        for part in parts {
            match part {
                Self::Any(inner) => flat.extend(inner),
                always @ Self::All(_) if always.is_always() => return always,
                other => flat.push(other),
            }
        }
        if flat.len() == 1 { flat.remove(0) } else { Self::Any(flat) }
    }

    /// Whether one of its parts is so.
    pub fn contains(&self, is: &impl Fn(&T) -> bool) -> bool {
        match self {
            Self::Is(part) => is(part),
            Self::Not(inner) => inner.contains(is),
            Self::All(parts) | Self::Any(parts) => parts.iter().any(|part| part.contains(is)),
        }
    }

    pub fn is_always(&self) -> bool {
        matches!(self, Self::All(parts) if parts.is_empty())
    }

    pub fn is_never(&self) -> bool {
        matches!(self, Self::Any(parts) if parts.is_empty())
    }
}
