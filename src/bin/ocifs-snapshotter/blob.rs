//! The bytes of a blob, as a process of `ocifs` writes them.

use rustix::process::{Pid, setpriority_process};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdout};
use tokio::task::JoinHandle;

use crate::program::{self, MAX_ERROR_BYTES, Program, Run};

/// Bytes of a piece: less than containerd takes in one message (16 MiB), and enough for few of them.
const PIECE_BYTES: usize = 1 << 20;

/// The nice value of the process: the lowest priority.
const NICE: i32 = 19;

/// A blob that is being read. The process ends with it.
#[derive(Debug)]
pub(crate) struct Blob {
    child: Child,
    bytes: ChildStdout,
    errors: JoinHandle<Vec<u8>>,
}

impl Blob {
    /// Begins to read a blob of an image at a byte.
    pub(crate) async fn open(
        program: &Program,
        image: &str,
        digest: &str,
        from: u64,
    ) -> Result<Blob, String> {
        let from = from.to_string();
        let Run { command, input } = program.prepare("blob", &["--from", &from], image, &[digest]);
        let mut command = tokio::process::Command::from(command);
        let failed = |e: std::io::Error| program.failed(&e);
        let mut child = command.kill_on_drop(true).spawn().map_err(failed)?;
        if let Some(pid) = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed()))
            && let Err(e) = setpriority_process(Some(pid), NICE)
        {
            log::debug!("the priority of a process: {e}");
        }
        if let Some(mut stdin) = child.stdin.take() {
            // A process that does not read it does not need it.
            let _ = stdin.write_all(&input).await;
        }
        let (Some(bytes), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
            return Err("a process of `ocifs` has no output".to_owned());
        };
        let errors = tokio::spawn(async move {
            let (mut stderr, mut text) = (stderr, Vec::new());
            // What can't be read is missing in a message.
            let _ = (&mut stderr).take(MAX_ERROR_BYTES).read_to_end(&mut text).await;
            let _ = tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await;
            text
        });
        Ok(Blob { child, bytes, errors })
    }

    /// The next bytes; none at the end, which is the end of all of it.
    pub(crate) async fn next(&mut self) -> Result<Vec<u8>, String> {
        let mut piece = Vec::with_capacity(PIECE_BYTES);
        let read = (&mut self.bytes).take(PIECE_BYTES as u64).read_to_end(&mut piece).await;
        read.map_err(|e| format!("what `ocifs` writes can't be read: {e}"))?;
        if piece.is_empty() {
            let status = self.child.wait().await;
            let status = status.map_err(|e| format!("the end of `ocifs`: {e}"))?;
            if !status.success() {
                let text = (&mut self.errors).await.unwrap_or_default();
                return Err(program::words(&text, status));
            }
        }
        Ok(piece)
    }
}
