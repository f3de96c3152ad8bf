//! A port of this machine that leads to a Pod or Service, as `kubectl port-forward` makes it.

use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, ChildStdout},
};

use crate::{Error, program::Program};

/// Open until dropped.
#[derive(Debug)]
pub struct Forward {
    port: u16,
    _child: Child,
    /// kubectl says more as it goes, and ends when nobody could read it.
    _output: Option<BufReader<ChildStdout>>,
}

impl Forward {
    pub(crate) async fn start(kubectl: &Program, namespace: &str, target: &str, port: u16) -> Result<Self, Error> {
        let failed = || Error::io(format!("forward a port to {target}"));
        let arguments = ["port-forward", "-n", namespace, target, &format!(":{port}"), "--address=127.0.0.1"];
        let mut child = kubectl.command(&arguments).spawn().map_err(failed())?;
        let mut line = String::new();
        let mut output = child.stdout.take().map(BufReader::new);
        if let Some(output) = &mut output {
            output.read_line(&mut line).await.map_err(failed())?;
        }
        // Forwarding from 127.0.0.1:40001 -> 8000
        let chosen = line.split(" -> ").next().and_then(|left| left.rsplit(':').next()?.parse().ok());
        match chosen {
            Some(port) => Ok(Self { port, _child: child, _output: output }),
            None => Err(failed()(std::io::Error::other(format!("kubectl said: {line}")))),
        }
    }

    /// Where it listens, as a URL without a path.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}
