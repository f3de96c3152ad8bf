//! The tables of the shop: their DDL and the one way in which two of them are joined. No rows and no questions here.

use anyhow::{Context, Result};

/// The DDL of the database, with an index on every foreign key.
pub const SCHEMA: &str = "\
CREATE TABLE categories (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE
);
CREATE TABLE suppliers (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  city TEXT NOT NULL,
  country TEXT NOT NULL
);
CREATE TABLE products (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  category_id INTEGER NOT NULL REFERENCES categories (id),
  supplier_id INTEGER NOT NULL REFERENCES suppliers (id),
  price REAL NOT NULL CHECK (price > 0),
  stock INTEGER NOT NULL CHECK (stock >= 0)
);
CREATE TABLE customers (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  city TEXT NOT NULL,
  country TEXT NOT NULL,
  joined_on TEXT NOT NULL
);
CREATE TABLE employees (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  role TEXT NOT NULL,
  salary INTEGER NOT NULL,
  hired_on TEXT NOT NULL
);
CREATE TABLE orders (
  id INTEGER PRIMARY KEY,
  customer_id INTEGER NOT NULL REFERENCES customers (id),
  employee_id INTEGER NOT NULL REFERENCES employees (id),
  ordered_on TEXT NOT NULL,
  status TEXT NOT NULL
);
CREATE TABLE order_items (
  id INTEGER PRIMARY KEY,
  order_id INTEGER NOT NULL REFERENCES orders (id),
  product_id INTEGER NOT NULL REFERENCES products (id),
  quantity INTEGER NOT NULL CHECK (quantity > 0),
  unit_price REAL NOT NULL CHECK (unit_price > 0),
  amount REAL NOT NULL
);
CREATE TABLE reviews (
  id INTEGER PRIMARY KEY,
  product_id INTEGER NOT NULL REFERENCES products (id),
  customer_id INTEGER NOT NULL REFERENCES customers (id),
  rating INTEGER NOT NULL CHECK (rating BETWEEN 1 AND 5),
  written_on TEXT NOT NULL
);
CREATE INDEX products_category_id ON products (category_id);
CREATE INDEX products_supplier_id ON products (supplier_id);
CREATE INDEX orders_customer_id ON orders (customer_id);
CREATE INDEX orders_employee_id ON orders (employee_id);
CREATE INDEX order_items_order_id ON order_items (order_id);
CREATE INDEX order_items_product_id ON order_items (product_id);
CREATE INDEX reviews_product_id ON reviews (product_id);
CREATE INDEX reviews_customer_id ON reviews (customer_id);
";

/// The tables, parents before children.
pub const TABLES: [&str; 8] =
    ["categories", "suppliers", "products", "customers", "employees", "orders", "order_items", "reviews"];

/// Foreign keys as (child table, column, parent table).
const FOREIGN_KEYS: [(&str, &str, &str); 8] = [
    ("products", "category_id", "categories"),
    ("products", "supplier_id", "suppliers"),
    ("orders", "customer_id", "customers"),
    ("orders", "employee_id", "employees"),
    ("order_items", "order_id", "orders"),
    ("order_items", "product_id", "products"),
    ("reviews", "product_id", "products"),
    ("reviews", "customer_id", "customers"),
];

/// Writes out the joins of a template: `JOIN child.parent` becomes `JOIN parent ON parent.id = child.parent_id`, the
/// only form of a join in the whole data set.
///
/// # Errors
/// When the schema has no such foreign key.
pub fn write_joins(template: &str) -> Result<String> {
    let mut parts = template.split("JOIN ");
    let mut sql = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (edge, rest) = part.split_once(' ').unwrap_or((part, ""));
        let (child, column, parent) = edge
            .split_once('.')
            .and_then(|(child, parent)| FOREIGN_KEYS.iter().find(|key| key.0 == child && key.2 == parent))
            .with_context(|| {
                format!("the template joins \"{edge}\", which is no foreign key: write JOIN child.parent")
            })?;
        sql.extend(["JOIN ", parent, " ON ", parent, ".id = ", child, ".", column, " ", rest]);
    }
    Ok(sql.trim_end().to_owned())
}
