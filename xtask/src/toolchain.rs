//! The eBPF toolchain that `cargo xtask setup` found, and how to build with it.
//!
//! Shared, by `#[path]`, between xtask, which finds and installs toolchains and writes the state file, and netpath's
//! build script, which only reads it. In: the state file in the private folder. Out: a command that builds for
//! `bpfel-unknown-none`. It must not install or download anything.

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

/// What the programs are compiled for: BPF, little-endian.
pub const TARGET: &str = "bpfel-unknown-none";

/// Environment variables of an outer cargo or of the user that must not leak into a build for the kernel: they name
/// another compiler, other flags, a wrapper such as clippy's, or another place for the output.
const FOREIGN: [&str; 17] = [
    "RUSTC",
    "RUSTC_WRAPPER",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTDOC",
    "RUSTFLAGS",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_BUILD_RUSTC",
    "CARGO_BUILD_RUSTC_WRAPPER",
    "CARGO_BUILD_RUSTC_WORKSPACE_WRAPPER",
    "CARGO_BUILD_RUSTFLAGS",
    "CARGO_BUILD_TARGET",
    "CARGO_BUILD_TARGET_DIR",
    "CARGO_BUILD_BUILD_DIR",
    "CARGO_TARGET_DIR",
    "CARGO_UNSTABLE_BUILD_STD",
    "CLIPPY_ARGS",
    "RUSTC_BOOTSTRAP",
];

/// What the object's build needs of the release profile, whatever the workspace or the user say of it: BTF is made from
/// debug information, so that must be there and not be stripped before the linker has seen it.
const PROFILE: [(&str, &str); 6] = [
    ("CARGO_PROFILE_RELEASE_DEBUG", "2"),
    ("CARGO_PROFILE_RELEASE_STRIP", "none"),
    ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "3"),
    ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1"),
    ("CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS", "false"),
    ("CARGO_PROFILE_RELEASE_OVERFLOW_CHECKS", "false"),
];

/// A compiler that can target BPF, but for the linker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compiler {
    /// Which route found it: a word for people.
    pub route: String,
    /// The compiler itself, not rustup's proxy.
    pub rustc: PathBuf,
    /// The cargo that goes with it, or none if the cargo that builds netpath will do.
    pub cargo: Option<PathBuf>,
    /// Directories with the compiler's own libLLVM, which bpf-linker loads too. Joined with `:`.
    pub library_path: OsString,
    /// Whether `core` must be compiled first (rust-src is there), since there is none ready-made for BPF.
    pub build_std: bool,
}

/// A compiler and a linker that were seen to work together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Toolchain {
    /// The compiler.
    pub compiler: Compiler,
    /// bpf-linker.
    pub linker: PathBuf,
    /// The compiler's version when it was seen to work, in one line.
    pub version: String,
}

impl Compiler {
    /// A command that runs `program` where it finds the compiler's own libraries, and without an outer build's settings.
    #[must_use]
    pub fn command(&self, program: &Path) -> Command {
        let mut paths: Vec<_> = env::split_paths(&self.library_path).collect();
        if let Some(inherited) = env::var_os("LD_LIBRARY_PATH") {
            paths.extend(env::split_paths(&inherited).filter(|path| !path.as_os_str().is_empty()));
        }
        let mut command = Command::new(program);
        for name in FOREIGN {
            command.env_remove(name);
        }
        command.env("LD_LIBRARY_PATH", env::join_paths(paths).unwrap_or_else(|_| self.library_path.clone()));
        command
    }

    /// A command that builds the crate in `directory` for BPF into `target_directory`, in the release profile, for a
    /// kernel of the architecture `arch` (Rust's name of it: `x86_64`, `aarch64`).
    ///
    /// The caller adds features and packages, and runs it.
    #[must_use]
    pub fn build(&self, linker: &Path, directory: &Path, target_directory: &Path, arch: &str) -> Command {
        let outer_cargo = || env::var_os("CARGO").map_or_else(|| "cargo".into(), PathBuf::from);
        let mut command = self.command(&self.cargo.clone().unwrap_or_else(outer_cargo));
        command.args(["build", "--release", "--target", TARGET, "--target-dir"]).arg(target_directory);
        if self.build_std {
            command.args(["-Z", "build-std=core"]);
        } else {
            // A stable compiler that has `core` for BPF: aya-ebpf needs features that are not stable.
            command.env("RUSTC_BOOTSTRAP", "1");
        }
        let mut flags = vec![
            format!("-Clinker={}", linker.display()),
            "-Cdebuginfo=2".into(),
            "-Clink-arg=--btf".into(),
            format!("--cfg=bpf_target_arch=\"{arch}\""),
        ];
        flags.extend(same_paths_everywhere(directory.parent().unwrap_or(directory), target_directory));
        // Flags are separated by the unit separator, so that paths may have spaces.
        command.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f")).env("RUSTC", &self.rustc).envs(PROFILE);
        command.current_dir(directory);
        command
    }
}

impl Toolchain {
    /// Reads the state file in `folder`.
    ///
    /// # Errors
    /// When there is none, it is damaged, or a program it names is gone.
    pub fn load(folder: &Path) -> Result<Self> {
        let path = state_file(folder);
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let toolchain = Self::parse(&text).with_context(|| format!("{} is damaged", path.display()))?;
        let compiler = &toolchain.compiler;
        for program in [Some(&compiler.rustc), Some(&toolchain.linker), compiler.cargo.as_ref()].into_iter().flatten() {
            ensure!(program.is_file(), "{} is gone", program.display());
        }
        Ok(toolchain)
    }

    /// Parses what `Display` writes: lines of `key=value`.
    fn parse(text: &str) -> Result<Self> {
        let field = |key: &str| {
            let mut lines = text.lines();
            let value = lines.find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
            value.filter(|value| !value.is_empty()).with_context(|| format!("it has no '{key}='"))
        };
        Ok(Self {
            compiler: Compiler {
                route: field("route")?.into(),
                rustc: field("rustc")?.into(),
                cargo: field("cargo").ok().map(PathBuf::from),
                library_path: field("library_path")?.into(),
                build_std: match field("build_std")? {
                    "true" => true,
                    "false" => false,
                    other => bail!("build_std is neither true nor false but '{}'", other.escape_debug()),
                },
            },
            linker: field("linker")?.into(),
            version: field("version")?.into(),
        })
    }
}

impl fmt::Display for Toolchain {
    /// The text of the state file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Compiler { route, rustc, cargo, library_path, build_std } = &self.compiler;
        writeln!(f, "# Written by `cargo xtask setup`; netpath's build script reads it.")?;
        writeln!(f, "route={route}\nversion={}\nrustc={}", self.version, rustc.display())?;
        if let Some(cargo) = cargo {
            writeln!(f, "cargo={}", cargo.display())?;
        }
        writeln!(f, "library_path={}\nbuild_std={build_std}", library_path.display())?;
        writeln!(f, "linker={}", self.linker.display())
    }
}

/// The compiler's flags by which what it makes does not tell where it was made, and is the same wherever that is: the paths of
/// sources are in what a panic says, and in BTF.
#[must_use]
pub fn same_paths_everywhere(workspace: &Path, target_directory: &Path) -> Vec<String> {
    let home = || env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo"));
    let cargo = env::var_os("CARGO_HOME").map(PathBuf::from).or_else(home);
    let places = [(Some(workspace), "/netpath"), (Some(target_directory), "/target"), (cargo.as_deref(), "/cargo")];
    // Of several that fit, the last one counts.
    places.into_iter().filter_map(|(from, to)| Some(format!("--remap-path-prefix={}={to}", from?.display()))).collect()
}

/// The state file in `folder`.
#[must_use]
pub fn state_file(folder: &Path) -> PathBuf {
    folder.join("state")
}

/// The folder that holds what `cargo xtask setup` installs: `netpath/ebpf-toolchain` in the user's cache directory
/// (XDG Base Directory Specification).
///
/// # Errors
/// When the environment names no usable cache directory.
pub fn private_folder() -> Result<PathBuf> {
    folder_in(env::var_os("XDG_CACHE_HOME"), env::var_os("HOME"))
}

/// [`private_folder`] for these values of `$XDG_CACHE_HOME` and `$HOME`.
fn folder_in(cache: Option<OsString>, home: Option<OsString>) -> Result<PathBuf> {
    let set = |value: Option<OsString>| value.filter(|value| !value.is_empty()).map(PathBuf::from);
    let (name, cache) = match (set(cache), set(home)) {
        (Some(cache), _) => ("XDG_CACHE_HOME", cache),
        (None, Some(home)) => ("HOME", home.join(".cache")),
        (None, None) => bail!("no place for the eBPF toolchain: set HOME or XDG_CACHE_HOME to an absolute path"),
    };
    ensure!(cache.is_absolute(), "{name} is a relative path; set it to an absolute one");
    let text = cache.to_str().with_context(|| format!("{name} is not UTF-8; set XDG_CACHE_HOME to a path that is"))?;
    ensure!(
        !text.contains([':', '\n', '\x1f']),
        "{name} has a ':' or a control character; set XDG_CACHE_HOME to a path that has none"
    );
    Ok(cache.join("netpath/ebpf-toolchain"))
}

/// Makes sure that the file at `path` is an ELF object for BPF with type information (BTF).
///
/// # Errors
/// When it is anything else.
pub fn check_object(path: &Path) -> Result<()> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    // ELF64, little-endian, e_machine 247 (EM_BPF) at offset 18: elf(5) and linux/elf-em.h.
    let is_bpf = bytes.starts_with(b"\x7fELF\x02\x01") && bytes.get(18..20) == Some(&[247, 0]);
    ensure!(is_bpf, "{} is no eBPF object", path.display());
    ensure!(bytes.windows(5).any(|name| name == b".BTF\0"), "{} has no BTF", path.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn toolchain() -> Toolchain {
        Toolchain {
            compiler: Compiler {
                route: "installed nightly".into(),
                rustc: "/opt/with space/bin/rustc".into(),
                cargo: Some("/opt/with space/bin/cargo".into()),
                library_path: "/opt/with space/lib:/opt/b".into(),
                build_std: true,
            },
            linker: "/opt/bpf-linker".into(),
            version: "rustc 1.97.0-nightly e50a LLVM 22.1.4".into(),
        }
    }

    #[test]
    fn the_state_file_reads_back() {
        let mut toolchain = toolchain();
        assert_eq!(Toolchain::parse(&toolchain.to_string()).unwrap(), toolchain);
        toolchain.compiler.cargo = None;
        toolchain.compiler.build_std = false;
        assert_eq!(Toolchain::parse(&toolchain.to_string()).unwrap(), toolchain);
    }

    #[test]
    fn a_damaged_state_file_is_an_error_that_names_the_key() {
        let text = toolchain().to_string();
        for key in ["route", "version", "rustc", "library_path", "build_std", "linker"] {
            let without: String = text
                .lines()
                .filter(|line| !line.starts_with(&format!("{key}=")))
                .fold(String::new(), |all, line| all + line + "\n");
            assert_eq!(Toolchain::parse(&without).unwrap_err().to_string(), format!("it has no '{key}='"));
        }
        assert!(Toolchain::parse(&text.replace("build_std=true", "build_std=yes")).is_err());
        assert!(Toolchain::parse("").is_err());
    }

    #[test]
    fn the_private_folder_is_in_the_cache_directory() {
        let folder = |cache: Option<&str>, home: Option<&str>| folder_in(cache.map(Into::into), home.map(Into::into));
        assert_eq!(folder(Some("/c"), Some("/h")).unwrap(), Path::new("/c/netpath/ebpf-toolchain"));
        assert_eq!(folder(None, Some("/h")).unwrap(), Path::new("/h/.cache/netpath/ebpf-toolchain"));
        assert_eq!(folder(Some(""), Some("/h")).unwrap(), Path::new("/h/.cache/netpath/ebpf-toolchain"));
        for (cache, home) in
            [(None, None), (Some(""), Some("")), (Some("c"), Some("/h")), (None, Some("h")), (Some("/a:b"), None)]
        {
            assert!(folder(cache, home).is_err(), "{cache:?} {home:?}");
        }
    }
}
