//! A formula as a chain: each test leads to the next one by its outcome.
//!
//! In: a formula of N tests. Out: N tests that lead forward only. `a and b`: a leads to b if it holds, else to the end.

use netpath_ebpf::trace::{ACCEPT, REJECT, TESTS, Test};

use super::super::Logic;

/// Where an outcome leads. Tests are placed from the last to the first, so that where they lead is placed before.
#[derive(Clone, Copy)]
enum To {
    Accept,
    Reject,
    /// The test that was placed as the so-manieth.
    Placed(usize),
}

struct Placed<'a> {
    test: &'a Test,
    then: To,
    otherwise: To,
}

/// The chain of a formula; or the number of its tests, if there are more than [`TESTS`].
pub fn chain(formula: &Logic<Test>) -> Result<[Test; TESTS], usize> {
    const END: Test = Test { kind: 0, fact: 0, then: REJECT, otherwise: REJECT, low: [0; 4], high: [0; 4] };
    let mut tests = [END; TESTS];
    let mut placed = Vec::new();
    let first = place(formula, To::Accept, To::Reject, &mut placed);
    let count = placed.len();
    if count > TESTS {
        return Err(count);
    }
    #[expect(clippy::cast_possible_truncation, reason = "less than the number of tests")]
    let number = |to: To| match to {
        To::Accept => ACCEPT,
        To::Reject => REJECT,
        To::Placed(at) => (count - 1 - at) as u8,
    };
    if count == 0 {
        // Always or never.
        tests[0] = Test { then: number(first), otherwise: number(first), ..END };
    }
    for (slot, Placed { test, then, otherwise }) in tests.iter_mut().zip(placed.into_iter().rev()) {
        *slot = Test { then: number(then), otherwise: number(otherwise), ..*test };
    }
    Ok(tests)
}

/// Places a formula before what is placed. It begins where this leads: at the last test that was placed.
fn place<'a>(formula: &'a Logic<Test>, then: To, otherwise: To, placed: &mut Vec<Placed<'a>>) -> To {
    match formula {
        Logic::Is(test) => {
            placed.push(Placed { test, then, otherwise });
            To::Placed(placed.len() - 1)
        }
        Logic::Not(inner) => place(inner, otherwise, then, placed),
        Logic::All(parts) => parts.iter().rev().fold(then, |next, part| place(part, next, otherwise, placed)),
        Logic::Any(parts) => parts.iter().rev().fold(otherwise, |next, part| place(part, then, next, placed)),
    }
}
