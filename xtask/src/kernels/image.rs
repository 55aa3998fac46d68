//! The root file system of a virtual machine, held in memory (initramfs): our programs, the few of this system that the lab
//! runs, with their libraries, and the kernel's modules.
//!
//! In: a kernel. Out: a file in the format that the kernel reads (cpio "newc", Documentation/driver-api/early-userspace).

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use super::packages::{Kernel, folder};
use super::tools::{TOOLS, Tools};

/// What the lab's devices, rules and filters are made of. What they need is found in them, but for ciphers, which the kernel
/// asks for by name.
const MODULES: [&str; 44] = [
    "veth",
    "tun",
    "sch_ingress",
    "sch_tbf",
    "cls_bpf",
    "cls_u32",
    "nf_tables",
    "nft_ct",
    "nft_nat",
    "nft_fib_ipv4",
    "nft_chain_nat",
    "nft_masq",
    "nf_conntrack",
    "nf_conntrack_netlink",
    "dummy",
    "bridge",
    "vxlan",
    "geneve",
    "ip_gre",
    "ip6_gre",
    "ipip",
    "sit",
    "ip6_tunnel",
    "wireguard",
    "8021q",
    "vrf",
    "bonding",
    "ip_vs",
    "ip_vs_rr",
    "esp4",
    "xfrm_user",
    "xfrm_interface",
    "authenc",
    "cbc",
    "hmac",
    "echainiv",
    // Newer kernels have these ciphers by other names.
    "aes_generic",
    "aes",
    "sha256_generic",
    "sha256",
    // What the kernel would make a random number from, for an IV.
    "ctr",
    "drbg",
    "jitterentropy_rng",
    "seqiv",
];

/// Makes the file for one kernel. `guest` is the first process, and `programs` are what it may be told to run.
///
/// # Errors
/// When a program, library or module is not there.
pub fn make(
    kernel: &Kernel,
    tools: &Tools,
    guest: &Path,
    netpath: &Path,
    programs: &[(&str, PathBuf)],
) -> Result<PathBuf> {
    let mut archive = Archive::default();
    for directory in ["bin", "etc", "root"] {
        archive.directory(directory);
    }
    let place = |archive: &mut Archive, name: &str, file: &Path| -> Result<()> {
        for (name, library) in tools.libraries(file)? {
            archive.file(&name, &fs::read(&library)?);
        }
        archive.file(name, &fs::read(file).with_context(|| format!("cannot read {}", file.display()))?);
        Ok(())
    };
    place(&mut archive, "init", guest)?;
    place(&mut archive, "bin/netpath", netpath)?;
    for (name, program) in programs {
        place(&mut archive, &format!("bin/{name}"), program)?;
    }
    for (tool, _) in TOOLS {
        place(&mut archive, &format!("bin/{tool}"), &tools.program(tool)?)?;
    }
    let modules = modules(&kernel.modules)?;
    for (name, module) in &modules {
        archive.file(&format!("lib/{name}.ko"), module);
    }
    let order: Vec<_> = modules.iter().map(|(name, _)| format!("/lib/{name}.ko\n")).collect();
    archive.file("modules", order.concat().as_bytes());
    let path = folder()?.join(format!("initramfs-{}", kernel.release));
    fs::write(&path, archive.finish()).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

/// [`MODULES`] and what they depend on, uncompressed, in an order in which they can be loaded.
fn modules(directory: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    let files = files(directory)?;
    let builtin = directory.join("modules.builtin");
    let builtin = fs::read_to_string(&builtin).with_context(|| format!("cannot read {}", builtin.display()))?;
    let builtin: BTreeSet<String> = builtin.lines().filter_map(|line| module_name(Path::new(line))).collect();
    let (mut loaded, mut order) = (BTreeSet::new(), Vec::new());
    let mut stack: Vec<String> = MODULES.iter().rev().map(|name| (*name).to_owned()).collect();
    while let Some(name) = stack.last().cloned() {
        if loaded.contains(&name) || builtin.contains(&name) {
            stack.pop();
            continue;
        }
        // Some are part of another in a newer kernel; what lacks then shows in the tests.
        let Some(file) = files.get(&name) else {
            ensure!(MODULES.contains(&name.as_str()), "there is no module {name} in {}", directory.display());
            loaded.insert(name);
            continue;
        };
        let module = uncompressed(file)?;
        let missing: Vec<_> =
            needs(&module).into_iter().filter(|need| !loaded.contains(need) && !builtin.contains(need)).collect();
        if missing.is_empty() {
            order.push((name.clone(), module));
            loaded.insert(name);
        } else {
            ensure!(stack.len() < 1_000, "the modules in {} need each other in a circle", directory.display());
            stack.extend(missing);
        }
    }
    Ok(order)
}

/// All module files below `directory`, by the name that the kernel gives them.
fn files(directory: &Path) -> Result<BTreeMap<String, PathBuf>> {
    let mut files = BTreeMap::new();
    let mut directories = vec![directory.join("kernel")];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).with_context(|| format!("cannot read {}", directory.display()))? {
            let path = entry?.path();
            if path.is_dir() {
                directories.push(path);
            } else if let Some(name) = module_name(&path) {
                files.insert(name, path);
            }
        }
    }
    Ok(files)
}

fn module_name(path: &Path) -> Option<String> {
    Some(path.file_name()?.to_str()?.split_once(".ko")?.0.replace('-', "_"))
}

fn uncompressed(file: &Path) -> Result<Vec<u8>> {
    let program = match file.extension().and_then(OsStr::to_str) {
        Some("ko") => return fs::read(file).with_context(|| format!("cannot read {}", file.display())),
        Some("xz") => "xz",
        Some("zst") => "zstd",
        _ => bail!("{} is compressed in an unknown way", file.display()),
    };
    let output = Command::new(program).args(["-q", "-d", "-c"]).arg(file).output();
    let output = output.with_context(|| format!("cannot run {program}; install it"))?;
    ensure!(output.status.success(), "{program} cannot uncompress {}", file.display());
    Ok(output.stdout)
}

/// The modules that a module says it needs: `depends=a,b` in its strings.
fn needs(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(start) = module.windows(KEY.len()).position(|window| window == KEY) else { return Vec::new() };
    let list = module[start + KEY.len()..].split(|byte| *byte == 0).next().unwrap_or_default();
    let names = String::from_utf8_lossy(list).replace('-', "_");
    names.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// A cpio archive.
#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    names: BTreeSet<String>,
}

impl Archive {
    /// A directory and those that it is in.
    fn directory(&mut self, path: &str) {
        let path = path.trim_matches('/');
        if let Some((parent, _)) = path.rsplit_once('/') {
            self.directory(parent);
        }
        self.entry(path, 0o040_755, &[]);
    }

    /// A file that may be executed. The first one of a name stays.
    fn file(&mut self, path: &str, content: &[u8]) {
        let path = path.trim_start_matches('/');
        if let Some((parent, _)) = path.rsplit_once('/') {
            self.directory(parent);
        }
        self.entry(path, 0o100_755, content);
    }

    fn entry(&mut self, name: &str, mode: u32, content: &[u8]) {
        if self.names.insert(name.to_owned()) {
            self.write(name, mode, content);
        }
    }

    fn write(&mut self, name: &str, mode: u32, content: &[u8]) {
        let number = self.names.len();
        // Magic, inode, mode, owner, group, links, time, size, four device numbers, length of the name, checksum.
        let fields = [number, mode as usize, 0, 0, 1, 0, content.len(), 0, 0, 0, 0, name.len() + 1, 0];
        self.bytes.extend(b"070701");
        for field in fields {
            self.bytes.extend(format!("{field:08x}").into_bytes());
        }
        self.bytes.extend(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn finish(mut self) -> Vec<u8> {
        self.write("TRAILER!!!", 0, &[]);
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_module_needs_is_read_from_it() {
        assert_eq!(needs(b"x\0license=GPL\0depends=nf-conntrack,nfnetlink\0name=y\0"), ["nf_conntrack", "nfnetlink"]);
        assert!(needs(b"x\0depends=\0name=y\0").is_empty());
        assert!(needs(b"").is_empty());
        assert_eq!(module_name(Path::new("kernel/net/a-b.ko.xz")).unwrap(), "a_b");
        assert_eq!(module_name(Path::new("modules.order")), None);
    }

    #[test]
    fn an_archive_is_as_the_kernel_reads_it() {
        let mut archive = Archive::default();
        archive.file("/bin/a", b"hello");
        archive.file("bin/a", b"another");
        let text = String::from_utf8(archive.finish()).unwrap();
        assert_eq!(text.len() % 4, 0);
        let entry = "07070100000002000081ed000000000000000000000001000000000000000500000000000000000000000000000000\
                     0000000600000000bin/a\0";
        assert!(text.contains(entry), "{text}");
        assert_eq!(text.matches("070701").count(), 3, "bin, bin/a, and the end");
        assert!(!text.contains("another"));
    }
}
