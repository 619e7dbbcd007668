//! lastgood against a real PostgreSQL. `LASTGOOD_TEST_CATALOG_URL` is the URL of a superuser of it; without it, every test fails.

mod catalog;
mod cli;
mod database;
mod eventually;
mod producer;
mod queue;
