//! A small shop in sqlite, and questions about it with the SQL that answers them: the data of the quickstart.
//! Everything follows from one seed. Nothing here trains or serves a model.

mod choices;
pub mod database;
pub mod files;
pub mod intents;
pub mod pairs;
mod phrasing;
pub mod schema;
mod slots;
pub mod split;
pub mod statistics;
pub mod values;
pub mod verify;
