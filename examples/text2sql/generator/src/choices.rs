//! Choices: for every kind, phrases (in the grammar of `phrasing.rs`) and the one piece of SQL that each of them means.
//! No two options of a kind may be read alike, and no phrase may mean two things.

/// (kind, options of (phrase, SQL)). Both sides of an option name the same slots.
pub(crate) const CHOICES: &[(&str, &[(&str, &str)])] = &[
    (
        "more",
        &[("(more than|over|above)", ">"), ("(less than|under|below)", "<"), ("at least", ">="), ("at most", "<=")],
    ),
    ("as_many", &[("(more than|over)", ">"), ("at least", ">="), ("exactly", "=")]),
    ("average", &[("(average|mean)", "AVG"), ("(highest|maximum)", "MAX"), ("(lowest|minimum)", "MIN")]),
    ("first", &[("(last|latest|most recent)", "MAX"), ("(first|earliest)", "MIN")]),
    ("priciest", &[("(most expensive|priciest|costliest)", "DESC"), ("(cheapest|least expensive)", "ASC")]),
    ("newest", &[("(newest|most recent)", "DESC"), ("(oldest|earliest)", "ASC")]),
    ("than", &[("more expensive", ">"), ("cheaper", "<")]),
    ("earn", &[("more", ">"), ("less", "<")]),
    ("joined", &[("after", ">"), ("before", "<")]),
    ("some", &[("some", "IN"), ("no", "NOT IN")]),
    ("best_paid", &[("(best-paid|highest-paid)", "DESC"), ("(worst-paid|lowest-paid)", "ASC")]),
    ("best_rated", &[("(best-rated|highest-rated)", "DESC"), ("(worst-rated|lowest-rated)", "ASC")]),
    ("word", &[("{noun}", "{noun}"), ("{style}", "{style}")]),
    ("place", &[("city", "city"), ("country", "country")]),
    ("located", &[("{city}", "city = '{city}'"), ("{country}", "country = '{country}'")]),
    (
        "named",
        &[
            ("[the] [<supplier>] {vendor}", "name = '{vendor}'"),
            ("<suppliers> in {supplier_country}", "country = '{supplier_country}'"),
        ],
    ),
    ("supplier_field", &[("name", "name"), ("city", "city"), ("country", "country")]),
    (
        "customer_fields",
        &[
            ("names", "customers.name"),
            ("names and cities", "customers.name, customers.city"),
            ("names and countries", "customers.name, customers.country"),
            ("names and (join|sign-up) dates", "customers.name, customers.joined_on"),
        ],
    ),
    ("customer_field", &[("city", "city"), ("country", "country"), ("(join|sign-up) date", "joined_on")]),
    (
        "customer_filter",
        &[
            ("(from|in|living in|who live in) {city}", "customers.city = '{city}'"),
            ("(from|in|living in|who live in) {country}", "customers.country = '{country}'"),
            ("who joined (in|during) {year}", "strftime('%Y', customers.joined_on) = '{year}'"),
            ("who joined after {date}", "customers.joined_on > '{date}'"),
            ("who joined before {date}", "customers.joined_on < '{date}'"),
            ("who joined between {date_range}", "customers.joined_on BETWEEN {date_range}"),
            ("(with the first name|whose first name is) {first_name}", "customers.name LIKE '{first_name} %'"),
            ("(with the last name|whose last name is) {last_name}", "customers.name LIKE '% {last_name}'"),
        ],
    ),
    (
        "product_fields",
        &[
            ("names", "products.name"),
            ("names and prices", "products.name, products.price"),
            ("names and stock levels", "products.name, products.stock"),
            ("names, prices and stock levels", "products.name, products.price, products.stock"),
        ],
    ),
    ("product_field", &[("price", "price"), ("stock [level]", "stock")]),
    (
        "product_filter",
        &[
            ("(that cost|costing|priced) {more} {price} [dollars]", "products.price {more} {price}"),
            ("(that cost|costing|priced) between {price_range} [dollars]", "products.price BETWEEN {price_range}"),
            ("with {more} {units} (units|pieces) in stock", "products.stock {more} {units}"),
            ("with (the word {noun}|{noun}) in the name", "products.name LIKE '%{noun}%'"),
            ("whose name (contains|includes) {style}", "products.name LIKE '%{style}%'"),
        ],
    ),
    // without nouns, which say the category
    (
        "product_range",
        &[
            ("(that cost|costing|priced) {more} {price} [dollars]", "products.price {more} {price}"),
            ("(that cost|costing|priced) between {price_range} [dollars]", "products.price BETWEEN {price_range}"),
            ("with {more} {units} (units|pieces) in stock", "products.stock {more} {units}"),
        ],
    ),
    (
        "employee_fields",
        &[
            ("names", "employees.name"),
            ("names and roles", "employees.name, employees.role"),
            ("names and salaries", "employees.name, employees.salary"),
            ("names, roles and (hire|hiring) dates", "employees.name, employees.role, employees.hired_on"),
        ],
    ),
    ("employee_field", &[("(role|job)", "role"), ("(salary|pay)", "salary"), ("(hire|hiring) date", "hired_on")]),
    (
        "employee_filter",
        &[
            ("(working|who work|employed) as {role}", "employees.role = '{role}'"),
            ("(earning|who earn|with a salary of) {more} {salary} [dollars]", "employees.salary {more} {salary}"),
            ("(hired|who started) in {year}", "strftime('%Y', employees.hired_on) = '{year}'"),
            ("(hired|who started) after {date}", "employees.hired_on > '{date}'"),
            ("(hired|who started) before {date}", "employees.hired_on < '{date}'"),
        ],
    ),
    (
        "hired",
        &[
            ("hired in {year}", "strftime('%Y', employees.hired_on) = '{year}'"),
            ("hired after {date}", "employees.hired_on > '{date}'"),
            ("hired before {date}", "employees.hired_on < '{date}'"),
        ],
    ),
    (
        "supplier_fields",
        &[
            ("names", "suppliers.name"),
            ("names and cities", "suppliers.name, suppliers.city"),
            ("names and countries", "suppliers.name, suppliers.country"),
        ],
    ),
    (
        "order_fields",
        &[
            ("ids", "orders.id"),
            ("ids and dates", "orders.id, orders.ordered_on"),
            ("ids and statuses", "orders.id, orders.status"),
            ("dates and statuses", "orders.ordered_on, orders.status"),
        ],
    ),
    ("order_field", &[("date", "ordered_on"), ("status", "status")]),
    (
        "when",
        &[
            ("(in|during) {year}", "strftime('%Y', orders.ordered_on) = '{year}'"),
            ("(in|during) {month} {year}", "strftime('%Y-%m', orders.ordered_on) = '{year}-{month}'"),
            ("after {date}", "orders.ordered_on > '{date}'"),
            ("before {date}", "orders.ordered_on < '{date}'"),
            ("between {date_range}", "orders.ordered_on BETWEEN {date_range}"),
        ],
    ),
    (
        "order_filter",
        &[
            ("(placed|made) {when}", "{when}"),
            ("(placed|made) {when}", "{when}"),
            ("(that are|which are) {status}", "orders.status = '{status}'"),
            ("{status_of} {year}", "{status_of} AND strftime('%Y', orders.ordered_on) = '{year}'"),
        ],
    ),
    ("status_of", &[("with [the] status {status} from", "orders.status = '{status}'")]),
    (
        "review_when",
        &[
            ("(in|during) {year}", "strftime('%Y', reviews.written_on) = '{year}'"),
            ("after {date}", "reviews.written_on > '{date}'"),
            ("before {date}", "reviews.written_on < '{date}'"),
        ],
    ),
    ("review_fields", &[("ratings", "reviews.rating"), ("ratings and dates", "reviews.rating, reviews.written_on")]),
];
