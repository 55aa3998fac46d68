//! Names of the kernel's functions by address.
//!
//! In: `/proc/kallsyms`, which shows addresses to those with `CAP_SYSLOG` alone: whether they are shown is decided when it is
//! opened. Out: "`nf_hook_slow+0x9c`".

use std::fs::File;
use std::io::{self, Read as _, Seek as _};

const FILE: &str = "/proc/kallsyms";

/// The file, opened with the capabilities that it takes. It is read later, in another thread.
#[derive(Debug)]
pub struct SymbolFile(File);

impl SymbolFile {
    /// Opens it.
    pub fn open() -> io::Result<Self> {
        File::open(FILE).map(Self)
    }

    /// Reads it; each time anew, since modules come and go.
    pub fn read(&mut self) -> io::Result<Symbols> {
        let mut text = String::new();
        self.0.rewind()?;
        self.0.read_to_string(&mut text)?;
        Ok(Symbols::parse(&text))
    }
}

/// Functions, in order of address.
#[derive(Debug, Default)]
pub struct Symbols {
    addresses: Vec<u64>,
    /// Where each name begins in `names`; they follow each other.
    offsets: Vec<u32>,
    names: String,
}

impl Symbols {
    /// Reads lines of "address type name [module]". An address of 0 is one that was not shown.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let function = |line: &str| {
            let mut words = line.split_ascii_whitespace();
            let address = u64::from_str_radix(words.next()?, 16).ok().filter(|address| *address != 0)?;
            let is_function = matches!(words.next()?, "t" | "T" | "w" | "W");
            Some((address, words.next()?.to_owned())).filter(|_| is_function)
        };
        let mut functions: Vec<(u64, String)> = text.lines().filter_map(function).collect();
        // Of several at one address the first in the file.
        functions.sort_by_key(|(address, _)| *address);
        functions.dedup_by_key(|(address, _)| *address);
        let mut symbols = Self::default();
        for (address, name) in functions {
            symbols.addresses.push(address);
            symbols.offsets.push(u32::try_from(symbols.names.len()).unwrap_or(u32::MAX));
            symbols.names.push_str(&name);
        }
        symbols
    }

    /// Whether there are none, since the kernel did not show addresses.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.addresses.is_empty()
    }

    /// The function that the address is in, and how far.
    #[must_use]
    pub fn name(&self, address: u64) -> Option<String> {
        let after = self.addresses.partition_point(|begin| *begin <= address);
        let index = after.checked_sub(1)?;
        let begin = *self.offsets.get(index)? as usize;
        let end = self.offsets.get(after).map_or(self.names.len(), |end| *end as usize);
        Some(format!("{}+{:#x}", self.names.get(begin..end)?, address - self.addresses[index]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_named_by_the_function_before_them() {
        let text = "ffffffff81000200 T second\nffffffff81000100 t first\nffffffff81000180 D data\n\
                    ffffffffc0000000 t third\t[module]\n0000000000000000 T hidden\nodd line\n";
        let symbols = Symbols::parse(text);
        assert_eq!(symbols.name(0xffff_ffff_8100_019c).as_deref(), Some("first+0x9c"));
        assert_eq!(symbols.name(0xffff_ffff_8100_0200).as_deref(), Some("second+0x0"));
        assert_eq!(symbols.name(0xffff_ffff_c000_0001).as_deref(), Some("third+0x1"));
        assert_eq!(symbols.name(0x1000), None);
        assert!(Symbols::parse("0000000000000000 T hidden\n").is_empty());
    }
}
