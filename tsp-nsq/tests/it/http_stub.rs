//! An HTTP server in a few lines, for what nsqlookupd and an authority would say.

use std::sync::Arc;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// From the path and query to the status line's rest and a document.
pub(crate) type Answer = Arc<dyn Fn(&str) -> (&'static str, Value) + Send + Sync>;

/// Serves until it is dropped.
#[derive(Debug)]
pub(crate) struct HttpStub {
    pub(crate) address: String,
    _task: JoinSet<()>,
}

impl HttpStub {
    pub(crate) async fn at(address: &str, answer: Answer) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let mut task = JoinSet::new();
        task.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // A client that is gone needs no answer.
                let _ = serve(stream, &answer).await;
            }
        });
        Self { address, _task: task }
    }
}

async fn serve(stream: TcpStream, answer: &Answer) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut request = String::new();
    stream.read_line(&mut request).await?;
    let mut header = request.clone();
    while !header.trim_end().is_empty() {
        header.clear();
        stream.read_line(&mut header).await?;
    }
    let (status, document) = answer(request.split(' ').nth(1).unwrap_or_default());
    let body = document.to_string();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n",
        body.len()
    );
    stream.write_all((head + &body).as_bytes()).await?;
    stream.shutdown().await
}
