//! Builds the eBPF objects that netpath embeds, with the toolchain that `cargo xtask setup` found. It installs nothing.
//!
//! In: the crate `netpath-ebpf`, the toolchain's state file, and `NETPATH_EBPF`. Out: the objects' paths in
//! `NETPATH_EBPF_OBJECT` (what counts) and `NETPATH_TRACE_OBJECT` (what traces), compressed (RFC 1952), for `include_bytes!`.
//! `NETPATH_EBPF=none` deliberately builds without objects, for those who only work on the rest: then the cfg
//! `netpath_without_ebpf` is set. `NETPATH_EBPF=/absolute/folder` takes the objects `netpath-ebpf` and `trace` that were
//! built before.

#[path = "../xtask/src/toolchain.rs"]
mod toolchain;

use std::env;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};

use anyhow::{Context, Result, anyhow, ensure};
use flate2::Compression;
use flate2::write::GzEncoder;
use object::build::elf::{Builder, SectionData};
use object::elf::SHT_STRTAB;

use toolchain::{TARGET, Toolchain, check_object, private_folder, state_file};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    println!("cargo::rustc-check-cfg=cfg(netpath_without_ebpf)");
    println!("cargo::rerun-if-env-changed=NETPATH_EBPF");
    let objects = match env::var_os("NETPATH_EBPF").filter(|value| !value.is_empty()) {
        Some(value) if value == "none" => {
            println!("cargo::rustc-cfg=netpath_without_ebpf");
            return Ok(());
        }
        Some(value) => prebuilt(Path::new(&value))?,
        None => build()?,
    };
    for ((_, variable), object) in OBJECTS.iter().zip(objects) {
        println!("cargo::rustc-env={variable}={}", compressed(&object, variable)?.display());
    }
    Ok(())
}

/// The object with a quarter of its bytes.
fn compressed(object: &Path, name: &str) -> Result<PathBuf> {
    let path = PathBuf::from(env::var_os("OUT_DIR").context("run this with cargo")?).join(name).with_extension("gz");
    let bytes = fs::read(object).with_context(|| format!("cannot read {}", object.display()))?;
    let file = fs::File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    let mut encoder = GzEncoder::new(file, Compression::best());
    encoder
        .write_all(&bytes)
        .and_then(|()| encoder.finish())
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

/// Each object, and the variable that has its path.
const OBJECTS: [(&str, &str); 2] = [("netpath-ebpf", "NETPATH_EBPF_OBJECT"), ("trace", "NETPATH_TRACE_OBJECT")];

/// The objects in `folder`, which the user named.
fn prebuilt(folder: &Path) -> Result<[PathBuf; 2]> {
    ensure!(folder.is_absolute(), "NETPATH_EBPF is neither 'none' nor an absolute path to a folder with eBPF objects");
    let objects = OBJECTS.map(|(name, _)| folder.join(name));
    for object in &objects {
        check_object(object).context("NETPATH_EBPF names a folder without netpath's eBPF objects")?;
        rerun_if_changed(object);
    }
    Ok(objects)
}

/// Builds the objects.
fn build() -> Result<[PathBuf; 2]> {
    let here = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").context("run this with cargo")?);
    let workspace = here.parent().context("netpath is no member of a workspace")?;
    let sources = workspace.join("netpath-ebpf");
    for path in
        ["src", "trace", "Cargo.toml", "build.rs"].map(|name| sources.join(name)).iter().filter(|path| path.exists())
    {
        rerun_if_changed(path);
    }
    for name in ["Cargo.toml", "Cargo.lock"] {
        rerun_if_changed(&workspace.join(name));
    }
    for name in ["XDG_CACHE_HOME", "HOME"] {
        println!("cargo::rerun-if-env-changed={name}");
    }

    let folder = private_folder()?;
    let toolchain = Toolchain::load(&folder)
        .map_err(|error| anyhow!("no eBPF toolchain is set up ({error:#}); run `cargo xtask setup`"))?;
    rerun_if_changed(&state_file(&folder));
    rerun_if_changed(&toolchain.linker);

    let arch = env::var("CARGO_CFG_TARGET_ARCH").context("run this with cargo")?;
    let target_directory = PathBuf::from(env::var_os("OUT_DIR").context("run this with cargo")?).join("netpath-ebpf");
    let mut command = toolchain.compiler.build(&toolchain.linker, &sources, &target_directory, &arch);
    command.args(["--package", "netpath-ebpf", "--features", "bpf"]);
    for (name, _) in OBJECTS {
        command.args(["--bin", name]);
    }
    // Cargo reads a build script's stdout; the compiler's messages come by stderr.
    let status = command.stdout(Stdio::null()).status().with_context(|| format!("cannot run {command:?}"))?;
    ensure!(
        status.success(),
        "the eBPF programs do not build, see above; if that is not for their source, run `cargo xtask setup`"
    );
    let built = |name| {
        let object = target_directory.join(TARGET).join("release").join(name);
        check_object(&object)?;
        without_debug_sections(&object)
    };
    let [(counting, _), (tracing, _)] = OBJECTS;
    Ok([built(counting)?, built(tracing)?])
}

/// Copies `object` without its DWARF, which is most of it and nothing to the kernel. BTF, which was made from it, stays.
fn without_debug_sections(object: &Path) -> Result<PathBuf> {
    let bytes = fs::read(object).with_context(|| format!("cannot read {}", object.display()))?;
    let mut elf = Builder::read(&*bytes).with_context(|| format!("cannot parse {}", object.display()))?;
    for section in &mut elf.sections {
        section.delete = [&b".debug_"[..], b".rel.debug_"].iter().any(|prefix| section.name.starts_with(prefix));
        if let (b".BTF", SectionData::Data(data)) = (&*section.name, &mut section.data) {
            name_unions(data.to_mut());
        }
    }
    elf.delete_orphans();
    // LLVM keeps sections' and symbols' names in one table; the writer wants two.
    let names = elf.sections.add();
    names.name = b".shstrtab"[..].into();
    names.sh_type = SHT_STRTAB;
    names.data = SectionData::SectionString;
    let mut stripped = Vec::new();
    elf.write(&mut stripped).context("cannot strip the eBPF object")?;
    let path = object.with_extension("stripped.o");
    fs::write(&path, stripped).with_context(|| format!("cannot write {}", path.display()))?;
    check_object(&path)?;
    Ok(path)
}

/// Gives unions of generic types names that the kernel takes: the linker does so for structures alone.
fn name_unions(btf: &mut [u8]) {
    const UNION: &[u8] = b"\0MaybeUninit<";
    let mut at = 0;
    while let Some(found) = btf[at..].windows(UNION.len()).position(|bytes| bytes == UNION) {
        at += found + 1;
        for byte in btf[at..].iter_mut().take_while(|byte| **byte != 0).filter(|byte| !byte.is_ascii_alphanumeric()) {
            *byte = b'_';
        }
    }
}

fn rerun_if_changed(path: &Path) {
    println!("cargo::rerun-if-changed={}", path.display());
}
