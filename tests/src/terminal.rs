//! A program in a real terminal: tmux draws what it writes, and types keys.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result, ensure};

use crate::{Lab, netpath_binary, wait_until};

/// A terminal in which a shell has started netpath. It goes when it is dropped.
#[derive(Debug)]
pub struct Terminal {
    server: Child,
    socket: String,
}

/// What the shell prints once netpath has ended.
const ENDED: &str = "exit status";

impl Terminal {
    /// Runs `netpath` with these arguments in the lab's node, in a terminal of so many columns and lines, in this folder.
    /// `environment`: as a shell has it before a command, `NO_COLOR=1`.
    ///
    /// # Errors
    /// When tmux does not start.
    pub fn start(lab: &Lab, folder: &Path, size: (u16, u16), environment: &str, arguments: &str) -> Result<Self> {
        let netpath = netpath_binary()?;
        let command = format!("{environment} {} {arguments}", netpath.display());
        Self::run(lab.node.namespace.command("tmux")?, folder, size, &command)
    }

    /// Runs a shell's command in a terminal that `tmux` draws.
    ///
    /// # Errors
    /// When tmux does not start.
    pub fn run(mut tmux: Command, folder: &Path, (columns, lines): (u16, u16), command: &str) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let socket = format!("netpath-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        tmux.args(["-L", &socket, "-f", "/dev/null", "-u", "-D"]).env("SHELL", "/bin/sh");
        let server = tmux.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let terminal = Self { server: server.context("cannot start tmux")?, socket };
        let shell = format!("stty -g >before; {command} 2>errors; echo {ENDED} $?; stty -g >after; exec cat");
        let size = [columns.to_string(), lines.to_string()];
        let new = ["new-session", "-d", "-x", &size[0], "-y", &size[1], "-c"];
        let folder = folder.to_str().context("a path")?;
        // The server has no socket before it listens.
        wait_until("tmux listens", || terminal.tmux(&[&new[..], &[folder, &shell]].concat()).is_ok());
        Ok(terminal)
    }

    fn tmux(&self, arguments: &[&str]) -> Result<String> {
        // Without a server it must not start one, which would be elsewhere.
        let output =
            Command::new("tmux").args(["-N", "-L", &self.socket]).args(arguments).stdin(Stdio::null()).output()?;
        ensure!(output.status.success(), "tmux {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Presses keys, as tmux names them: `q`, `C-c`, `Down`, `Enter`.
    ///
    /// # Errors
    /// When tmux has gone.
    pub fn press(&self, keys: &[&str]) -> Result<()> {
        self.tmux(&[&["send-keys"], keys].concat()).map(drop)
    }

    /// Types text as it is.
    ///
    /// # Errors
    /// When tmux has gone.
    pub fn type_text(&self, text: &str) -> Result<()> {
        self.tmux(&["send-keys", "-l", text]).map(drop)
    }

    /// What is on the screen; `escapes`: with its colours.
    ///
    /// # Errors
    /// When tmux has gone.
    pub fn screen(&self, escapes: bool) -> Result<String> {
        self.tmux(if escapes { &["capture-pane", "-p", "-e"] } else { &["capture-pane", "-p"] })
    }

    /// Makes the terminal larger or smaller.
    ///
    /// # Errors
    /// When tmux has gone.
    pub fn resize(&self, columns: u16, lines: u16) -> Result<()> {
        self.tmux(&["resize-window", "-x", &columns.to_string(), "-y", &lines.to_string()]).map(drop)
    }

    /// Waits until the screen has this text, and returns the screen.
    ///
    /// # Panics
    /// When that takes too long; the message has the screen.
    #[track_caller]
    #[expect(clippy::must_use_candidate, reason = "to wait is enough")]
    pub fn wait_for(&self, text: &str) -> String {
        let mut screen = String::new();
        wait_until(&format!("the screen has {text:?}"), || {
            screen = self.screen(false).unwrap_or_default();
            screen.contains(text)
        });
        screen
    }

    /// Process id of netpath.
    ///
    /// # Errors
    /// When it does not run.
    pub fn netpath(&self) -> Result<u32> {
        let shell = self.tmux(&["display-message", "-p", "#{pane_pid}"])?;
        let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", shell.trim()))?;
        children.split_whitespace().next().context("nothing runs")?.parse().context("a number")
    }

    /// Waits until netpath has ended, and returns its exit status.
    ///
    /// # Errors
    /// When the terminal is not as it was before.
    pub fn ended(&self, folder: &Path) -> Result<i32> {
        let screen = self.wait_for(ENDED);
        wait_until("the terminal's settings are written", || {
            std::fs::read_to_string(folder.join("after")).is_ok_and(|text| text.ends_with('\n'))
        });
        let settings = |file: &str| std::fs::read_to_string(folder.join(file));
        ensure!(settings("before")? == settings("after")?, "the terminal's settings are not what they were");
        let flags = self.tmux(&["display-message", "-p", "#{alternate_on} #{cursor_flag} #{mouse_any_flag}"])?;
        ensure!(flags.trim() == "0 1 0", "alternate screen, cursor, mouse: {flags}");
        let (_, status) = screen.split_once(ENDED).context("its status")?;
        status.split_whitespace().next().context("a status")?.parse().context("a number")
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // What runs in it gets SIGHUP.
        let _ = self.tmux(&["kill-server"]);
        let _ = self.server.wait();
    }
}
