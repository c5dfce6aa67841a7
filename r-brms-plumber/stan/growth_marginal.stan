// Linear growth with a random intercept and slope a student (Laird & Ware, Biometrics 38 (1982) 963-974), both
// integrated out exactly:
//
//   y_i ~ N(X_i beta, sigma^2 I + X_i Sigma X_i'),  row of X_i = (1, week),  Sigma from (sd, cor)
//
// The likelihood needs a student only through A = X'X = [n sw; sw sww], c = X'y and y'y. Students that share A
// are one pattern, summed beforehand (R/patterns.R), so a gradient costs two products of a G-row matrix and a
// vector, whatever the number of students.
//
// With |.| the determinant, b_i the student's least-squares coefficients, rss the squares about their line and
// d = b_i - beta, Woodbury's identity and the matrix determinant lemma come to
//
//   |sigma^2 I + X Sigma X'| = sigma^(2 (n - 2)) det,   det = sigma^4 + sigma^2 tr(A Sigma) + |A| |Sigma|
//   r' (sigma^2 I + X Sigma X')^-1 r = rss / sigma^2 + (sigma^2 d'A d + |A| d' adj(Sigma) d) / det
//
// Only non-negative terms are added: nothing cancels, even where sigma is small beside the sds. A student of
// one week has |A| = 0 and both lines stay true, b_i being any solution of A b = c.
data {
  int<lower=1> G;                // patterns
  vector<lower=1>[G] n_students; // students in the pattern
  matrix[G, 5] D;                // det is linear in 5 products of the parameters ...
  matrix[G, 12] Q;               // ... and the quadratic form's numerator, summed over the students, in 12
  vector[2] centre;              // pooled least-squares beta: near it, multiplied-out squares stay exact
  real<lower=0> rss;             // squares about each student's own line, all students
  real log_sigma_power;          // rows - 2 * students
  real log_sigma_centre;         // log of the residual sd about the students' own lines
  real<lower=0> students;
  real<lower=0> n_rows;
}
transformed data {
  // Stan shrinks its metric towards unit scale: a posterior of many students, thousandths wide, needs its own.
  real unit = inv_sqrt(students);
  real unit_sigma = inv_sqrt(n_rows);
}
parameters {
  real<offset=centre[1], multiplier=unit> b_Intercept;
  real<offset=centre[2], multiplier=unit> b_week;
  // Half-normal sds as folded normals: the density is the same at (-u_Intercept, u_week, -z) and so on, and
  // smooth at 0, where log(sd) would run away to minus infinity and mix badly whenever a spread may be nil.
  real<multiplier=unit> u_Intercept;
  real<multiplier=unit> u_week;
  real<multiplier=unit> z; // atanh of the correlation, up to sign
  real<offset=log_sigma_centre, multiplier=unit_sigma> log_sigma;
}
model {
  real s2 = exp(2 * log_sigma);
  real r = tanh(z);
  real S00 = square(u_Intercept);
  real S11 = square(u_week);
  real S01 = r * u_Intercept * u_week;
  real d0 = b_Intercept - centre[1];
  real d1 = b_week - centre[2];
  vector[5] p;
  vector[12] q;
  vector[G] det;

  // Columns of D: 1, n, 2 sw, sww, |A|
  p[1] = square(s2);
  p[2] = s2 * S00;
  p[3] = s2 * S01;
  p[4] = s2 * S11;
  p[5] = S00 * S11 * (1 - square(r));

  // Columns of Q, made by pattern_terms() in R/patterns.R: the polynomial in delta of sum d'A d, then that of
  // sum |A| d' adj(Sigma) d
  q[1] = s2;
  q[2] = -2 * s2 * d0;
  q[3] = -2 * s2 * d1;
  q[4] = s2 * square(d0);
  q[5] = 2 * s2 * d0 * d1;
  q[6] = s2 * square(d1);
  q[7] = S11;
  q[8] = -2 * S01;
  q[9] = S00;
  q[10] = 2 * (S01 * d1 - S11 * d0);
  q[11] = 2 * (S01 * d0 - S00 * d1);
  q[12] = S11 * square(d0) - 2 * S01 * d0 * d1 + S00 * square(d1);

  // Priors: the caller scales score and week to about unit spread.
  b_Intercept ~ normal(0, 1);
  b_week ~ normal(0, 1);
  u_Intercept ~ normal(0, 1);
  u_week ~ normal(0, 1);
  target += log_sigma - 0.5 * s2;   // sigma ~ half-normal(0, 1), and the Jacobian of exp
  target += 2 * log1m(square(r));   // LKJ(2) in two dimensions, and the Jacobian of tanh

  det = D * p;
  target += -0.5 * (dot_product(n_students, log(det)) + sum((Q * q) ./ det) + rss / s2)
            - log_sigma_power * log_sigma;
}
generated quantities {
  real sd_Intercept = u_Intercept < 0 ? -u_Intercept : u_Intercept;
  real sd_week = u_week < 0 ? -u_week : u_week;
  real cor = u_Intercept * u_week < 0 ? -tanh(z) : tanh(z);
  real sigma = exp(log_sigma);
}
