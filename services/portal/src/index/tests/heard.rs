//! An index that has heard what a test says, as if it stood in a certified block.

use super::*;

impl Index {
    /// One block with these transactions and events, at that time.
    pub(crate) async fn hear(
        &self,
        time_ms: u64,
        transactions: Vec<api::TransactionView>,
        events: Vec<ledger::Event>,
    ) {
        let begun = self.begin("heard".into()).await.expect("begun");
        let mut heard = block(begun.height + 1, begun.events, events);
        heard.header.time_ms = time_ms;
        for event in &mut heard.events {
            event.time_ms = time_ms;
        }
        heard.view.transactions = transactions;
        let taken = take(self, begun, vec![heard]).await;
        assert!(taken.expect("taken"));
    }

    /// Columns that hold texts, as `table.column`, and whether one of their rows holds `part`.
    pub(crate) async fn texts(&self, part: &'static str) -> Vec<(String, bool)> {
        let asked = self.ask(move |store| {
            let columns = store.rows(
                "SELECT m.name, c.name FROM sqlite_master m JOIN pragma_table_info(m.name) c
                 WHERE m.type = 'table' AND c.type = 'TEXT' ORDER BY 1, 2",
                &[],
            )?;
            let mut texts = Vec::new();
            for column in columns {
                let (table, column): (String, String) = (column.get(0)?, column.get(1)?);
                let sql = format!("SELECT 1 FROM {table} WHERE instr({column}, $1) > 0 LIMIT 1");
                let holds = store.row(&sql, &[Value::from(part)])?.is_some();
                texts.push((format!("{table}.{column}"), holds));
            }
            Ok(texts)
        });
        asked.await.expect("asked")
    }
}
