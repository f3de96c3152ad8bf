//! The rows of the shop: made from a seed, kept in memory for the slots of the questions, written to sqlite.
//! The same seed gives the same bytes.

use std::path::Path;

use anyhow::{Context, Result};
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rusqlite::{Connection, params};

use crate::schema::SCHEMA;
use crate::values::{
    CATEGORIES, COUNTRIES, FIRST_NAMES, LAST_NAMES, ROLES, SIZES, STATUSES, STYLES, SUPPLIER_FIRST, SUPPLIER_LAST,
    YEARS,
};

const SUPPLIERS: usize = 36;
const PRODUCTS: usize = 300;
const CUSTOMERS: usize = 400;
const EMPLOYEES: usize = 48;
const ORDERS: usize = 1600;
const REVIEWS: usize = 1200;

/// A supplier; its id is its place in [`Shop::suppliers`], counted from 1, as for all other rows.
#[derive(Debug)]
pub struct Supplier {
    /// Two words, unique.
    pub name: String,
    /// A city of `country`.
    pub city: &'static str,
    /// One of [`COUNTRIES`].
    pub country: &'static str,
}

/// Something that the shop sells.
#[derive(Debug)]
pub struct Product {
    /// Two or three words, unique; the last is a noun of the category.
    pub name: String,
    /// Index into [`CATEGORIES`].
    pub category: usize,
    /// Index into [`Shop::suppliers`].
    pub supplier: usize,
    /// In cents.
    pub price: i64,
    /// Units.
    pub stock: i64,
}

/// Somebody who may order.
#[derive(Debug)]
pub struct Customer {
    /// First and last name, unique among customers and employees.
    pub name: String,
    /// A city of `country`.
    pub city: &'static str,
    /// One of [`COUNTRIES`].
    pub country: &'static str,
    /// ISO date.
    pub joined_on: String,
}

/// Somebody who takes orders.
#[derive(Debug)]
pub struct Employee {
    /// First and last name, unique among customers and employees.
    pub name: String,
    /// One of [`ROLES`].
    pub role: &'static str,
    /// A month, in whole dollars.
    pub salary: i64,
    /// ISO date.
    pub hired_on: String,
}

/// An order; indices into the other tables.
#[derive(Debug)]
pub struct Order {
    /// Index into [`Shop::customers`].
    pub customer: usize,
    /// Index into [`Shop::employees`].
    pub employee: usize,
    /// ISO date.
    pub ordered_on: String,
    /// One of [`STATUSES`].
    pub status: &'static str,
}

/// A line of an order.
#[derive(Debug)]
pub struct OrderItem {
    /// Index into [`Shop::orders`].
    pub order: usize,
    /// Index into [`Shop::products`].
    pub product: usize,
    /// Units.
    pub quantity: i64,
    /// In cents, up to a tenth below the product's price.
    pub unit_price: i64,
}

/// A customer's opinion of a product.
#[derive(Debug)]
pub struct Review {
    /// Index into [`Shop::products`].
    pub product: usize,
    /// Index into [`Shop::customers`].
    pub customer: usize,
    /// 1 to 5.
    pub rating: i64,
    /// ISO date.
    pub written_on: String,
}

/// All rows of the database.
#[derive(Debug)]
pub struct Shop {
    /// Table `suppliers`.
    pub suppliers: Vec<Supplier>,
    /// Table `products`.
    pub products: Vec<Product>,
    /// Table `customers`.
    pub customers: Vec<Customer>,
    /// Table `employees`.
    pub employees: Vec<Employee>,
    /// Table `orders`, in the order of their dates.
    pub orders: Vec<Order>,
    /// Table `order_items`.
    pub order_items: Vec<OrderItem>,
    /// Table `reviews`.
    pub reviews: Vec<Review>,
}

impl Shop {
    /// The shop of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let suppliers = suppliers(&mut rng);
        let products = products(&mut rng, suppliers.len());
        let mut names = people(&mut rng);
        let customers = customers(&mut rng, &mut names);
        let employees = employees(&mut rng, &mut names);
        let orders = orders(&mut rng, customers.len(), employees.len());
        let order_items = order_items(&mut rng, &products, orders.len());
        let reviews = reviews(&mut rng, products.len(), customers.len());
        Self { suppliers, products, customers, employees, orders, order_items, reviews }
    }

    /// Writes the database to `path`, replacing what is there only when it is complete.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let partial = path.with_extension("sqlite.partial");
        if partial.exists() {
            std::fs::remove_file(&partial).with_context(|| format!("failed to remove {}", partial.display()))?;
        }
        let mut connection =
            Connection::open(&partial).with_context(|| format!("failed to create {}", partial.display()))?;
        self.insert(&mut connection)?;
        connection.close().map_err(|(_, error)| error).context("failed to close the database")?;
        std::fs::rename(&partial, path).with_context(|| format!("failed to rename to {}", path.display()))
    }

    /// Creates the tables in an empty database and fills them in one transaction.
    ///
    /// # Errors
    /// When sqlite refuses a statement.
    pub fn insert(&self, connection: &mut Connection) -> Result<()> {
        connection.pragma_update(None, "foreign_keys", "ON")?;
        let transaction = connection.transaction()?;
        transaction.execute_batch(SCHEMA)?;
        self.insert_catalog(&transaction)?;
        self.insert_people(&transaction)?;
        self.insert_sales(&transaction)?;
        transaction.commit()?;
        Ok(())
    }

    fn insert_catalog(&self, connection: &Connection) -> Result<()> {
        let mut statement = connection.prepare("INSERT INTO categories VALUES (?, ?)")?;
        for (id, (name, _)) in (1_i64..).zip(CATEGORIES) {
            statement.execute(params![id, name])?;
        }
        let mut statement = connection.prepare("INSERT INTO suppliers VALUES (?, ?, ?, ?)")?;
        for (id, row) in (1_i64..).zip(&self.suppliers) {
            statement.execute(params![id, row.name, row.city, row.country])?;
        }
        let mut statement = connection.prepare("INSERT INTO products VALUES (?, ?, ?, ?, ?, ?)")?;
        for (id, row) in (1_i64..).zip(&self.products) {
            let (category, supplier) = (id_of(row.category), id_of(row.supplier));
            statement.execute(params![id, row.name, category, supplier, dollars(row.price), row.stock])?;
        }
        Ok(())
    }

    fn insert_people(&self, connection: &Connection) -> Result<()> {
        let mut statement = connection.prepare("INSERT INTO customers VALUES (?, ?, ?, ?, ?)")?;
        for (id, row) in (1_i64..).zip(&self.customers) {
            statement.execute(params![id, row.name, row.city, row.country, row.joined_on])?;
        }
        let mut statement = connection.prepare("INSERT INTO employees VALUES (?, ?, ?, ?, ?)")?;
        for (id, row) in (1_i64..).zip(&self.employees) {
            statement.execute(params![id, row.name, row.role, row.salary, row.hired_on])?;
        }
        Ok(())
    }

    fn insert_sales(&self, connection: &Connection) -> Result<()> {
        let mut statement = connection.prepare("INSERT INTO orders VALUES (?, ?, ?, ?, ?)")?;
        for (id, row) in (1_i64..).zip(&self.orders) {
            let (customer, employee) = (id_of(row.customer), id_of(row.employee));
            statement.execute(params![id, customer, employee, row.ordered_on, row.status])?;
        }
        let mut statement = connection.prepare("INSERT INTO order_items VALUES (?, ?, ?, ?, ?, ?)")?;
        for (id, row) in (1_i64..).zip(&self.order_items) {
            let (order, product) = (id_of(row.order), id_of(row.product));
            let amount = dollars(row.quantity * row.unit_price);
            statement.execute(params![id, order, product, row.quantity, dollars(row.unit_price), amount])?;
        }
        let mut statement = connection.prepare("INSERT INTO reviews VALUES (?, ?, ?, ?, ?)")?;
        for (id, row) in (1_i64..).zip(&self.reviews) {
            let (product, customer) = (id_of(row.product), id_of(row.customer));
            statement.execute(params![id, product, customer, row.rating, row.written_on])?;
        }
        Ok(())
    }
}

/// Ids count from 1.
#[expect(clippy::cast_possible_wrap, reason = "a table has some thousand rows")]
fn id_of(index: usize) -> i64 {
    index as i64 + 1
}

fn dollars(cents: i64) -> f64 {
    cents as f64 / 100.0
}

fn date(rng: &mut ChaCha8Rng) -> String {
    let (year, month, day) = (rng.random_range(YEARS.0..=YEARS.1), rng.random_range(1..=12), rng.random_range(1..=28));
    format!("{year}-{month:02}-{day:02}")
}

fn place(rng: &mut ChaCha8Rng) -> (&'static str, &'static str) {
    let (country, cities) = COUNTRIES[rng.random_range(0..COUNTRIES.len())];
    (cities[rng.random_range(0..cities.len())], country)
}

/// Every pair of a first and a last name, shuffled.
fn people(rng: &mut ChaCha8Rng) -> Vec<String> {
    let mut names: Vec<String> =
        FIRST_NAMES.iter().flat_map(|first| LAST_NAMES.iter().map(move |last| format!("{first} {last}"))).collect();
    names.shuffle(rng);
    names
}

fn suppliers(rng: &mut ChaCha8Rng) -> Vec<Supplier> {
    let mut names: Vec<String> = SUPPLIER_FIRST
        .iter()
        .flat_map(|first| SUPPLIER_LAST.iter().map(move |last| format!("{first} {last}")))
        .collect();
    names.shuffle(rng);
    names.truncate(SUPPLIERS);
    let with_place = |name| {
        let (city, country) = place(rng);
        Supplier { name, city, country }
    };
    names.into_iter().map(with_place).collect()
}

fn products(rng: &mut ChaCha8Rng, suppliers: usize) -> Vec<Product> {
    let mut products: Vec<Product> = Vec::with_capacity(PRODUCTS);
    while products.len() < PRODUCTS {
        let category = products.len() % CATEGORIES.len();
        let noun = CATEGORIES[category].1.choose(rng).copied().unwrap_or_default();
        let style = STYLES.choose(rng).copied().unwrap_or_default();
        let size = SIZES.choose(rng).copied().unwrap_or_default();
        let name = if rng.random_ratio(1, 3) { format!("{size} {style} {noun}") } else { format!("{style} {noun}") };
        if products.iter().any(|product| product.name == name) {
            continue;
        }
        // log-uniform between 5 and 250 dollars, ending in a usual number of cents
        let price = (5.0 * 50.0_f64.powf(rng.random::<f64>())).floor() as i64 * 100
            + [0, 49, 50, 95, 99][rng.random_range(0..5)];
        let stock = if rng.random_ratio(1, 8) { 0 } else { rng.random_range(1..=120) };
        products.push(Product { name, category, supplier: rng.random_range(0..suppliers), price, stock });
    }
    products
}

fn customers(rng: &mut ChaCha8Rng, names: &mut Vec<String>) -> Vec<Customer> {
    let with_place = |name| {
        let (city, country) = place(rng);
        Customer { name, city, country, joined_on: date(rng) }
    };
    names.drain(..CUSTOMERS).map(with_place).collect()
}

fn employees(rng: &mut ChaCha8Rng, names: &mut Vec<String>) -> Vec<Employee> {
    let with_role = |(index, name): (usize, String)| {
        let (role, low, high) = ROLES[index % ROLES.len()];
        Employee { name, role, salary: rng.random_range(low / 50..=high / 50) * 50, hired_on: date(rng) }
    };
    names.drain(..EMPLOYEES).enumerate().map(with_role).collect()
}

/// Orders sorted by date. A fifth of the customers and a sixth of the employees never appear; some appear often.
fn orders(rng: &mut ChaCha8Rng, customers: usize, employees: usize) -> Vec<Order> {
    let mut dates: Vec<String> = (0..ORDERS).map(|_| date(rng)).collect();
    dates.sort();
    let with_people = |ordered_on| {
        let busy = rng.random::<f64>() * rng.random_range(0.4..1.0);
        let customer = (busy * (customers * 4 / 5) as f64) as usize;
        let employee = rng.random_range(0..employees * 5 / 6);
        let status = STATUSES[[0, 0, 1, 1, 1, 2, 2, 2, 2, 2, 3, 4][rng.random_range(0..12)]];
        Order { customer, employee, ordered_on, status }
    };
    dates.into_iter().map(with_people).collect()
}

/// One to four lines an order. A tenth of the products are never sold.
fn order_items(rng: &mut ChaCha8Rng, products: &[Product], orders: usize) -> Vec<OrderItem> {
    let mut sold: Vec<usize> = (0..products.len()).collect();
    sold.shuffle(rng);
    sold.truncate(products.len() * 9 / 10);
    let mut items = Vec::new();
    for order in 0..orders {
        let lines = rng.random_range(1..=4);
        for &product in sold.choose_multiple(rng, lines) {
            let unit_price = products[product].price * rng.random_range(90..=100) / 100;
            items.push(OrderItem { order, product, quantity: rng.random_range(1..=6), unit_price });
        }
    }
    items
}

/// Reviews in the order in which they were written. A sixth of the products and a third of the customers have none.
fn reviews(rng: &mut ChaCha8Rng, products: usize, customers: usize) -> Vec<Review> {
    let mut reviewed: Vec<usize> = (0..products).collect();
    reviewed.shuffle(rng);
    reviewed.truncate(products * 5 / 6);
    let mut reviewers: Vec<usize> = (0..customers).collect();
    reviewers.shuffle(rng);
    reviewers.truncate(customers * 2 / 3);
    let mut dates: Vec<String> = (0..REVIEWS).map(|_| date(rng)).collect();
    dates.sort();
    let with_rating = |written_on| Review {
        product: reviewed[rng.random_range(0..reviewed.len())],
        customer: reviewers[rng.random_range(0..reviewers.len())],
        rating: [1, 2, 2, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5][rng.random_range(0..13)],
        written_on,
    };
    dates.into_iter().map(with_rating).collect()
}
