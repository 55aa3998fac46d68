//! Gives a filter the meaning that names have now: tests of single facts, and a chain of them.
//!
//! In: an expression, and what names mean. Out: a [`Filter`], or why there is none.

mod chain;
mod lower;
mod names;

use netpath_ebpf::trace::{SET_MEMBERS, TESTS};

use self::lower::Lowering;
use super::{Filter, FilterError, Logic, Names, Primitive};

/// Compiles an expression.
pub fn compile(expression: &Logic<Primitive>, names: &impl Names) -> Result<Filter, FilterError> {
    let mut lowering = Lowering::new(names);
    let formula = lowering.lower(expression)?;
    let members = lowering.members();
    if members.len() > SET_MEMBERS {
        return Err(FilterError(format!(
            "the filter's names have {} addresses, and {SET_MEMBERS} fit: use net, or less of ns, svc and pod",
            members.len()
        )));
    }
    let tests = chain::chain(&formula).map_err(|count| {
        let advice = "use net for several addresses, portrange for several ports, ns for several pods";
        FilterError(format!("the filter needs {count} tests, and {TESTS} fit: {advice}"))
    })?;
    Ok(Filter { tests, members })
}
