//! The architectures of nodes, and what others call them.

use anyhow::{Context, Result};
use clap::ValueEnum;

/// A node's CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Architecture {
    /// Intel and AMD.
    #[value(name = "x86_64")]
    X86_64,
    /// Graviton.
    Aarch64,
}

impl Architecture {
    /// This machine's.
    ///
    /// # Errors
    /// When it is none of these.
    pub fn host() -> Result<Self> {
        let name = std::env::consts::ARCH;
        let known = Self::value_variants().iter().copied().find(|known| known.name() == name);
        known.with_context(|| format!("netpath is not for {name}; build it on x86_64 or aarch64"))
    }

    /// What tells things of another architecture than this machine's apart in names of files.
    ///
    /// # Errors
    /// As [`host`](Self::host).
    pub fn suffix(self) -> Result<String> {
        Ok(if self == Self::host()? { String::new() } else { format!("-{}", self.name()) })
    }

    /// As Linux and Rust have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
        }
    }

    /// Rust's target triple.
    pub fn rust_target(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64-unknown-linux-gnu",
            Self::Aarch64 => "aarch64-unknown-linux-gnu",
        }
    }

    /// As Go, container images, Kubernetes and Debian have it.
    pub fn oci_name(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::Aarch64 => "arm64",
        }
    }

    /// `e_machine` of its programs (linux/elf-em.h).
    pub fn elf_machine(self) -> u16 {
        match self {
            Self::X86_64 => 62,
            Self::Aarch64 => 183,
        }
    }
}
