//! What can be asked: one intent is one shape of query with the phrasings that mean it, as data, one file for a family.
//!
//! Which columns a question selects follows from its words: "which customers …" selects names, "the names and cities of …"
//! selects both, "how many … per city" selects the city and the count.

mod catalog;
mod customers;
mod employees;
mod orders;
mod reviews;
mod sales;
mod suppliers;

/// A shape of query and its phrasings.
#[derive(Debug, Clone, Copy)]
pub struct Intent {
    /// Unique, kebab-case.
    pub name: &'static str,
    /// The query without its final semicolon; joins in the short form of [`crate::schema::write_joins`].
    pub sql: &'static str,
    /// Phrasings in the grammar of `phrasing.rs`, each naming every slot of `sql`.
    pub questions: &'static [&'static str],
}

const fn intent(name: &'static str, sql: &'static str, questions: &'static [&'static str]) -> Intent {
    Intent { name, sql, questions }
}

/// All intents, in a fixed order.
pub fn all() -> Vec<Intent> {
    [
        customers::INTENTS,
        catalog::INTENTS,
        suppliers::INTENTS,
        employees::INTENTS,
        orders::INTENTS,
        sales::INTENTS,
        reviews::INTENTS,
    ]
    .concat()
}
