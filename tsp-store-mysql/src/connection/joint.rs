//! Several statements in one text: one round trip, and an answer to each.

use metrics::histogram;
use tokio::time::Instant;
use tsp_store::error::Result;

use crate::connection::fault::Fault;
use crate::connection::session::{Answer, COMMIT, Session, Statement, measure};

impl Session {
    /// What the server says to each statement. It goes no further than the first that fails: whoever calls this
    /// gives up the transaction then.
    pub(crate) async fn ask_all(
        &mut self,
        name: &'static str,
        statements: &[Statement<'_>],
    ) -> Result<Vec<Answer>> {
        let mut answers = Vec::with_capacity(statements.len());
        self.ask_measured(name, written(statements)?, &mut answers).await?;
        Ok(answers)
    }

    /// The last statements of a transaction, and its commit. After an error of a statement it is still open.
    ///
    /// # Errors
    /// [`tsp_store::StoreError::Unknown`] when the answer was lost or the commit failed: what was done may stand.
    pub(crate) async fn commit_with(&mut self, name: &'static str, last: &[Statement<'_>]) -> Result<()> {
        let text = match written(last)? {
            none if none.is_empty() => COMMIT.to_owned(),
            text => [&text, ";\n", COMMIT].concat(),
        };
        let mut answers = Vec::with_capacity(last.len() + 1);
        self.committing = true;
        let done = self.ask_measured(name, text, &mut answers).await;
        match done {
            Err(error) if answers.len() < last.len() && self.fault() != Some(Fault::Broken) => {
                self.committing = false;
                Err(error)
            }
            done => self.committed(done),
        }
    }

    async fn ask_measured(
        &mut self,
        name: &'static str,
        text: String,
        answers: &mut Vec<Answer>,
    ) -> Result<()> {
        let started = Instant::now();
        let done = self.ask_text(name, text, answers).await;
        measure(name, &histogram!("tsp_db_seconds", "statement" => name), self, started);
        done
    }
}

fn written(statements: &[Statement<'_>]) -> Result<String> {
    let mut text = String::new();
    for Statement { sql, values } in statements {
        if !text.is_empty() {
            text.push_str(";\n");
        }
        sql.write(values, &mut text)?;
    }
    Ok(text)
}
