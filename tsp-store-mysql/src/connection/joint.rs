//! Several statements in one text: one round trip, and an answer to each.

use metrics::histogram;
use tokio::time::Instant;
use tsp_store::error::Result;

use crate::connection::fault::Fault;
use crate::connection::session::{Answer, BEGIN, COMMIT, Session, Statement, measure};
use crate::connection::statement_templates::made;

impl Session {
    /// What the server says to each statement. It goes no further than the first that fails: whoever calls this
    /// gives up the transaction then.
    pub(crate) async fn ask_all(
        &mut self,
        name: &'static str,
        statements: &[Statement<'_>],
    ) -> Result<Vec<Answer>> {
        let mut answers = Vec::with_capacity(statements.len());
        self.ask_text(name, written(statements)?, &mut answers).await?;
        Ok(answers)
    }

    /// The same as the first statements of a transaction, which is open then.
    #[cfg_attr(not(test), expect(dead_code, reason = "for transactions over the shards of a data source"))]
    pub(crate) async fn begin_with(
        &mut self,
        name: &'static str,
        statements: &[Statement<'_>],
    ) -> Result<Vec<Answer>> {
        let text = [BEGIN, ";\n", &written(statements)?].concat();
        let mut answers = Vec::with_capacity(statements.len() + 1);
        self.opens()?;
        self.ask_text(name, text, &mut answers).await?;
        Ok(answers.split_off(1))
    }

    /// The same as the whole of a transaction, which is committed. After an error of a statement it is still open.
    ///
    /// # Errors
    /// [`tsp_store::StoreError::Unknown`] when the answer was lost or the commit failed: what was done may stand.
    #[cfg_attr(not(test), expect(dead_code, reason = "for transactions over the shards of a data source"))]
    pub(crate) async fn commit_all(
        &mut self,
        name: &'static str,
        statements: &[Statement<'_>],
    ) -> Result<Vec<Answer>> {
        let text = [BEGIN, ";\n", &written(statements)?, ";\n", COMMIT].concat();
        let mut answers = Vec::with_capacity(statements.len() + 2);
        self.opens()?;
        self.commits();
        let done = self.ask_text(name, text, &mut answers).await;
        let came_to_commit = answers.len() > statements.len() || self.fault() == Some(Fault::Broken);
        match done {
            Err(error) if !came_to_commit => return Err(error),
            done => self.committed(done)?,
        }
        answers.pop();
        Ok(answers.split_off(1))
    }

    async fn ask_text(&mut self, name: &'static str, text: String, answers: &mut Vec<Answer>) -> Result<()> {
        let started = Instant::now();
        let done = self.ask(name, made(text), answers).await;
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
