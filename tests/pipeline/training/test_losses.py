"""Losses against hand values, formulas written another way, and the forms in which they were published."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch.nn import functional

import plugs
from pipeline.base.errors import InputError
from pipeline.training import losses
from pipeline.training.losses import LOSSES, SoftLoss

NAMES = sorted(LOSSES)
LABELS = torch.tensor([0, 4, 2, 2, 1, 3])


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Small tensors: threads that wait for each other cost ten times what they save on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def random_logits(*shape, seed=0, dtype=torch.float32):
    return (torch.randn(shape or (6, 5), generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 3).to(dtype)


def pair(*shape, dtype=torch.float64):
    """Logits of a student, a leaf, and of a teacher."""
    return random_logits(*shape, seed=1, dtype=dtype).requires_grad_(), random_logits(*shape, seed=2, dtype=dtype)


def gradient(loss, leaf):
    return torch.autograd.grad(loss, leaf, retain_graph=True)[0]


def assert_same(ours, theirs, leaf, rtol=1e-9):
    """Two scalar losses have one value and one gradient."""
    torch.testing.assert_close(ours, theirs, rtol=rtol, atol=1e-12)
    torch.testing.assert_close(gradient(ours, leaf), gradient(theirs, leaf), rtol=rtol, atol=1e-12)


# Published forms. Each is written as it was published, in the float64 of its input.


@pytest.mark.parametrize("alpha", [0.3, 1.0])
def test_hinton_soft_and_hard_cross_entropies(alpha):
    """α · T² · CE(q_s, q_t) + (1 − α) · CE(q_s, y)."""
    (student, teacher), T = pair(), 4.0
    soft = functional.cross_entropy(student / T, functional.softmax(teacher / T, dim=1))
    theirs = alpha * T**2 * soft + (1 - alpha) * functional.cross_entropy(student, LABELS)
    ours = alpha * SoftLoss.parse("ce")(student, teacher, LABELS, T) + (1 - alpha) * losses.cross_entropy(student, LABELS)
    assert_same(ours.mean(), theirs, student)


def test_mdistiller_kd():
    """w_ce · CE + w_kd · T² · KL, with the weights 0.1 and 0.9 and the temperature 4 of its configuration files."""
    (student, teacher), T = pair(), 4
    log_pred_student = functional.log_softmax(student / T, dim=1)
    pred_teacher = functional.softmax(teacher / T, dim=1)
    loss_kd = functional.kl_div(log_pred_student, pred_teacher, reduction="none").sum(1).mean()
    loss_kd *= T**2
    theirs = 0.1 * functional.cross_entropy(student, LABELS) + 0.9 * loss_kd
    ours = 0.1 * losses.cross_entropy(student, LABELS) + 0.9 * SoftLoss.parse("kl")(student, teacher, LABELS, T)
    assert_same(ours.mean(), theirs, student)


@pytest.mark.parametrize("squared", [True, False])
def test_keras_example_of_today_and_of_2020(squared):
    """α · CE + (1 − α) · KLDivergence(softmax(t / T), softmax(s / T)) · T², α 0.1, T 10; in 2020 without T².

    KLDivergence is Σ p · log(p / q).
    """
    (student, teacher), T, alpha = pair(), 10, 0.1
    p, q = torch.softmax(teacher / T, dim=1), torch.softmax(student / T, dim=1)
    distillation = (p * torch.log(p / q)).sum(-1).mean() * (T**2 if squared else 1)
    theirs = alpha * functional.cross_entropy(student, LABELS) + (1 - alpha) * distillation
    soft = SoftLoss.parse("kl", squared=squared)(student, teacher, LABELS, T)
    assert_same((alpha * losses.cross_entropy(student, LABELS) + (1 - alpha) * soft).mean(), theirs, student)


def test_cs230_code_divides_the_soft_term_by_the_classes_too():
    """nn.KLDivLoss()(log q, p) · α T² + CE · (1 − α), its mean over rows and classes: alpha is α / C, label_weight 1 − α."""
    (student, teacher), T, alpha = pair(), 6.0, 0.9
    log_q, p = functional.log_softmax(student / T, dim=1), functional.softmax(teacher / T, dim=1)
    theirs = functional.kl_div(log_q, p, reduction="mean") * (alpha * T * T)
    theirs = theirs + functional.cross_entropy(student, LABELS) * (1.0 - alpha)
    soft = SoftLoss.parse("kl")(student, teacher, LABELS, T)
    ours = alpha / student.shape[1] * soft + (1 - alpha) * losses.cross_entropy(student, LABELS)
    assert_same(ours.mean(), theirs, student)


def test_summed_kl_div_loss_over_the_batch_size():
    """nn.KLDivLoss(reduction="sum")(log q, p) · T² / N."""
    (student, teacher), T = pair(), 3.0
    criterion = torch.nn.KLDivLoss(reduction="sum")
    theirs = criterion(torch.log_softmax(student / T, dim=1), torch.softmax(teacher / T, dim=1)) * (T * T) / len(student)
    assert_same(SoftLoss.parse("kl")(student, teacher, LABELS, T).mean(), theirs, student)


def published_dkd(logits_student, logits_teacher, target, alpha, beta, temperature):
    """The authors' code; `size_average=False` is today's reduction="sum"."""
    gt_mask = torch.zeros_like(logits_student).scatter_(1, target.unsqueeze(1), 1).bool()
    other_mask = torch.ones_like(logits_student).scatter_(1, target.unsqueeze(1), 0).bool()

    def cat_mask(t):
        return torch.cat([(t * gt_mask).sum(dim=1, keepdims=True), (t * other_mask).sum(1, keepdims=True)], dim=1)

    pred_student = cat_mask(functional.softmax(logits_student / temperature, dim=1))
    pred_teacher = cat_mask(functional.softmax(logits_teacher / temperature, dim=1))
    tckd_loss = functional.kl_div(torch.log(pred_student), pred_teacher, reduction="sum") * temperature**2 / len(target)
    pred_teacher_part2 = functional.softmax(logits_teacher / temperature - 1000.0 * gt_mask, dim=1)
    log_pred_student_part2 = functional.log_softmax(logits_student / temperature - 1000.0 * gt_mask, dim=1)
    nckd_loss = functional.kl_div(log_pred_student_part2, pred_teacher_part2, reduction="sum")
    return alpha * tckd_loss + beta * nckd_loss * temperature**2 / len(target)


@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 8.0), (0.0, 2.0), (0.5, 0.0)])
def test_dkd_of_its_authors(alpha, beta):
    (student, teacher), T = pair(), 4.0
    ours = SoftLoss.parse(f"dkd(alpha={alpha}, beta={beta})")(student, teacher, LABELS, T).mean()
    assert_same(ours, published_dkd(student, teacher, LABELS, alpha, beta, T), student)


def published_dist(z_s, z_t, beta, gamma, tau):
    """The authors' code."""

    def cosine_similarity(a, b, eps=1e-8):
        return (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1) + eps)

    def pearson_correlation(a, b, eps=1e-8):
        return cosine_similarity(a - a.mean(1).unsqueeze(1), b - b.mean(1).unsqueeze(1), eps)

    def inter_class_relation(y_s, y_t):
        return 1 - pearson_correlation(y_s, y_t).mean()

    def intra_class_relation(y_s, y_t):
        return inter_class_relation(y_s.transpose(0, 1), y_t.transpose(0, 1))

    y_s, y_t = (z_s / tau).softmax(dim=1), (z_t / tau).softmax(dim=1)
    inter_loss = tau**2 * inter_class_relation(y_s, y_t)
    intra_loss = tau**2 * intra_class_relation(y_s, y_t)
    return beta * inter_loss + gamma * intra_loss


@pytest.mark.parametrize(("beta", "gamma"), [(1.0, 1.0), (2.0, 0.5)])
@pytest.mark.parametrize("T", [1.0, 4.0])
def test_dist_of_its_authors(beta, gamma, T):
    student, teacher = pair()
    ours = SoftLoss.parse(f"dist(beta={beta}, gamma={gamma})")(student, teacher, LABELS, T).mean()
    assert_same(ours, published_dist(student, teacher, beta, gamma, T), student)


def test_dist_counts_flat_probabilities_as_the_published_code_does():
    """1e-8 in the denominator matters here: rows whose probabilities vary by about 1e-4."""
    (student, teacher), T = pair(), 20_000.0
    ours = SoftLoss.parse("dist")(student, teacher, LABELS, T).mean()
    where_it_does_not = losses.dist(student, teacher, LABELS, T / 20).mean()
    assert ours / T**2 > 1.01 * where_it_does_not
    assert_same(ours, published_dist(student, teacher, 1.0, 1.0, T), student, rtol=1e-6)


def test_js_is_how_far_the_entropy_of_the_mean_lies_above_the_mean_entropy():
    """H(½ p + ½ q) − ½ H(p) − ½ H(q), as Lin 1991 defines it."""
    (student, teacher), T = pair(), 4.0
    p, q = torch.softmax(teacher / T, dim=1), torch.softmax(student / T, dim=1)
    above, *each = (torch.distributions.Categorical(probs=probs).entropy() for probs in ((p + q) / 2, p, q))
    assert_same(SoftLoss.parse("js", squared=False)(student, teacher, None, T).sum(), (above - sum(each) / 2).sum(), student)


def test_tv_is_what_the_teacher_has_more_of():
    """Σ max(p − q, 0), which is half of Σ |p − q|, as both sum to 1."""
    (student, teacher), T = pair(), 4.0
    more = functional.relu(torch.softmax(teacher / T, dim=1) - torch.softmax(student / T, dim=1))
    assert_same(SoftLoss.parse("tv")(student, teacher, None, T).mean(), 16 * more.sum(1).mean(), student)


def published_mlkd(logits_student, logits_teacher, temperatures):
    """The authors' three losses at each temperature, added up for one batch."""

    def kd_loss(temperature):
        log_pred_student = functional.log_softmax(logits_student / temperature, dim=1)
        pred_teacher = functional.softmax(logits_teacher / temperature, dim=1)
        return functional.kl_div(log_pred_student, pred_teacher, reduction="none").sum(1).mean() * temperature**2

    def probabilities(temperature):
        return (functional.softmax(logits / temperature, dim=1) for logits in (logits_student, logits_teacher))

    def cc_loss(temperature):
        pred_student, pred_teacher = probabilities(temperature)
        student_matrix = torch.mm(pred_student.transpose(1, 0), pred_student)
        teacher_matrix = torch.mm(pred_teacher.transpose(1, 0), pred_teacher)
        return ((teacher_matrix - student_matrix) ** 2).sum() / logits_student.shape[1]

    def bc_loss(temperature):
        pred_student, pred_teacher = probabilities(temperature)
        student_matrix = torch.mm(pred_student, pred_student.transpose(1, 0))
        teacher_matrix = torch.mm(pred_teacher, pred_teacher.transpose(1, 0))
        return ((teacher_matrix - student_matrix) ** 2).sum() / logits_student.shape[0]

    return [sum(loss(temperature) for temperature in temperatures) for loss in (kd_loss, bc_loss, cc_loss)]


@pytest.mark.parametrize("weights", [(1, 1, 1), (9, 0.5, 0), (0, 0, 2)])
def test_mlkd_of_its_authors(weights):
    """At T = 4 their temperatures; T² is not multiplied, as the first term has τ² already."""
    student, teacher = pair()
    terms = published_mlkd(student, teacher, [2.0, 3.0, 4.0, 5.0, 6.0])
    theirs = sum(weight * term for weight, term in zip(weights, terms, strict=True))
    loss = SoftLoss.parse("mlkd(instance={}, batch={}, classes={})".format(*weights))
    assert_same(loss(student, teacher, None, 4.0).mean(), theirs, student)
    assert min(float(term.detach()) for term in terms) > 1e-2


def published_tf_kd(outputs, labels, alpha, T, multiplier, correct_prob):
    """The authors' code; labels are set by an index instead of in a loop."""
    K = outputs.size(1)
    teacher_soft = torch.ones_like(outputs) * (1 - correct_prob) / (K - 1)
    teacher_soft[torch.arange(len(labels)), labels] = correct_prob
    loss_soft_regu = (
        functional.kl_div(
            functional.log_softmax(outputs, dim=1), functional.softmax(teacher_soft / T, dim=1), reduction="none"
        ).mean()
        * multiplier
    )
    return (1.0 - alpha) * functional.cross_entropy(outputs, labels) + alpha * loss_soft_regu


@pytest.mark.parametrize(("alpha", "T", "multiplier", "probability"), [(0.1, 20.0, 100, 0.99), (0.95, 2.0, 1, 0.7)])
def test_tf_kd_of_its_authors(alpha, T, multiplier, probability):
    """Their multiplier is that of a mean over classes too; and so for each student of a stack."""
    student = pair()[0]
    how = {"weight": alpha, "probability": probability, "temperature": T, "multiplier": multiplier / 5}
    ours = losses.tf_kd(student, LABELS, **how)
    assert_same(ours.mean(), published_tf_kd(student, LABELS, alpha, T, multiplier, probability), student)
    stack = torch.stack([student, 2 * student], dim=1)
    torch.testing.assert_close(losses.tf_kd(stack, LABELS, **how)[:, 0], ours, rtol=1e-13, atol=0)


def test_logit_standardisation_of_its_authors():
    (student, teacher), T = pair(), 2.0

    def normalize(logit):
        mean = logit.mean(dim=-1, keepdims=True)
        stdv = logit.std(dim=-1, keepdims=True)
        return (logit - mean) / (1e-7 + stdv)

    log_pred_student = functional.log_softmax(normalize(student) / T, dim=1)
    pred_teacher = functional.softmax(normalize(teacher) / T, dim=1)
    theirs = functional.kl_div(log_pred_student, pred_teacher, reduction="none").sum(1).mean() * T**2
    assert_same(SoftLoss.parse("kl", standardised=True)(student, teacher, LABELS, T).mean(), theirs, student)


# Hand values, and what ties one loss to another.


def test_kl_by_hand():
    """Student uniform over two classes, teacher 3/4 and 1/4 at T = 2 (logits 2 · log p)."""
    teacher = 2 * torch.log(torch.tensor([[0.75, 0.25]]))
    expected = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    assert losses.kl(torch.zeros(1, 2), teacher, None, 2.0).item() == pytest.approx(expected, rel=1e-6)


def test_mse_by_hand():
    """(1, 2, 6) centred is (−2, −1, 3) and (0, 3, 0) is (−1, 2, −1): differences −1, −3, 4, squares 26, half their mean."""
    student = torch.tensor([[1.0, 2.0, 6.0]], requires_grad=True)
    value = losses.mse(student, torch.tensor([[0.0, 3.0, 0.0]]), None, 1.0)
    assert value.item() == pytest.approx(26 / 6, rel=1e-15)
    assert gradient(value.sum(), student)[0].tolist() == pytest.approx([-1 / 3, -3 / 3, 4 / 3], rel=1e-6)


def test_js_and_tv_by_hand():
    """Teacher 3/4 and 1/4, student uniform: the middle is 5/8 and 3/8, the variation 1/4. Nothing in common: ln 2 and 1."""
    teacher, student = torch.tensor([[0.75, 0.25]]).log(), torch.zeros(1, 2)
    middle = 0.75 * math.log(6 / 5) + 0.25 * math.log(2 / 3) + 0.5 * math.log(4 / 5) + 0.5 * math.log(4 / 3)
    assert losses.js(student, teacher, None, 1.0).item() == pytest.approx(middle / 2, rel=1e-6)
    assert losses.tv(student, teacher, None, 1.0).item() == pytest.approx(0.25, rel=1e-6)
    apart = torch.tensor([[9e4, 0.0]])
    assert [loss(apart, apart.flip(1), None, 1.0).item() for loss in (losses.js, losses.tv)] == pytest.approx([math.log(2), 1])


def test_dkd_by_hand():
    """Label 0. Teacher (1/2, 3/8, 1/8), student (1/4, 3/8, 3/8): the others are 3/4, 1/4 and 1/2, 1/2."""
    teacher, student = torch.tensor([[0.5, 0.375, 0.125]]).log(), torch.tensor([[0.25, 0.375, 0.375]]).log()
    target = 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)
    other = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    found = losses.dkd(student, teacher, torch.tensor([0]), 1.0, alpha=2.0, beta=3.0)
    assert found.item() == pytest.approx(2 * target + 3 * other, rel=1e-6)


def test_dist_by_hand():
    """r by numpy: of each row, and of each class over the batch, whose mean every row carries."""
    student, teacher = random_logits(seed=1), random_logits(seed=2)
    p, q = (torch.softmax(z.double() / 2, 1).numpy() for z in (student, teacher))
    within = np.mean([1 - np.corrcoef(p[:, c], q[:, c])[0, 1] for c in range(5)])
    expected = [2 * (1 - np.corrcoef(p[b], q[b])[0, 1]) + 3 * within for b in range(6)]
    assert losses.dist(student, teacher, None, 2.0, beta=2.0, gamma=3.0).tolist() == pytest.approx(expected, rel=1e-5)


def test_cross_entropy_by_hand():
    values = losses.cross_entropy(torch.log(torch.tensor([[0.2, 0.8], [0.5, 0.5]])), torch.tensor([1, 0]))
    torch.testing.assert_close(values, -torch.log(torch.tensor([0.8, 0.5], dtype=torch.float64)), rtol=1e-6, atol=0)


def test_cross_entropy_is_float64_throughout():
    """In float32 the label's probability is 1 and the loss 0."""
    values = losses.cross_entropy(torch.tensor([[20.0, 0.0]]), torch.tensor([0]))
    assert values.item() == pytest.approx(math.log1p(math.exp(-20)), rel=1e-6)


def test_cross_entropy_of_stacked_students_is_that_of_each():
    stack = random_logits(6, 3, 5)
    expected = torch.stack([losses.cross_entropy(stack[:, k], LABELS) for k in range(3)], dim=1)
    torch.testing.assert_close(losses.cross_entropy(stack, LABELS), expected, rtol=1e-14, atol=0)


@pytest.mark.parametrize("T", [0.5, 4.0])
def test_ce_is_kl_plus_the_entropy_of_the_targets(T):
    """Another value, the same gradient."""
    student, teacher = pair()
    ce, kl = losses.ce(student, teacher, None, T), losses.kl(student, teacher, None, T)
    entropy = torch.distributions.Categorical(logits=teacher / T).entropy()
    assert entropy.min() > 1e-4
    torch.testing.assert_close(ce - kl, entropy, rtol=1e-9, atol=0)
    torch.testing.assert_close(gradient(ce.sum(), student), gradient(kl.sum(), student), rtol=1e-9, atol=1e-15)


def test_mse_is_the_limit_of_kl_at_high_temperatures():
    """The error of T² · KL, and of its gradient, falls as 1 / T."""
    student, teacher = pair(6, 5)
    limit = losses.mse(student, teacher, None, 1.0).sum()
    errors = []
    for T in (1e2, 1e3, 1e4):
        near = SoftLoss.parse("kl")(student, teacher, None, T).sum()
        value = ((near - limit) / limit).abs().item()
        slope = (gradient(near, student) - gradient(limit, student)).norm() / gradient(limit, student).norm()
        errors.append((value, slope.item()))
    for earlier, later in pairwise(errors):
        assert [a / b for a, b in zip(earlier, later, strict=True)] == pytest.approx([10, 10], rel=0.1)
    assert max(errors[-1]) < 1e-3


def test_dkd_with_the_weights_of_the_paper_is_kl():
    """KL = TCKD + (1 − p) · NCKD, p the teacher's probability of the label: why DKD is called decoupled."""
    (student, teacher), T = pair(), 3.0
    tckd, nckd = (losses.dkd(student, teacher, LABELS, T, alpha=a, beta=1.0 - a) for a in (1.0, 0.0))
    rest = 1 - torch.softmax(teacher / T, dim=1)[torch.arange(6), LABELS]
    torch.testing.assert_close(tckd + rest * nckd, losses.kl(student, teacher, None, T), rtol=1e-9, atol=0)


@pytest.mark.parametrize("standardised", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_shifts_of_a_row_do_not_matter(name, standardised):
    student, teacher = pair()
    shifts = [torch.linspace(-9, 9, 6)[:, None], torch.linspace(50, -3, 6)[:, None]]
    loss = SoftLoss.parse(name, standardised=standardised)
    shifted = loss(student + shifts[0], teacher + shifts[1], LABELS, 2.0)
    torch.testing.assert_close(shifted, loss(student, teacher, LABELS, 2.0), rtol=1e-9, atol=0)


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"ce"}))
def test_equals_are_at_the_minimum(name):
    """The value is 0 (of dist 1e-8 from it) and the gradient too; ce has the entropy left, and is tied to kl above.

    tv has a kink there instead of a slope.
    """
    student = random_logits(dtype=torch.float64).requires_grad_()
    value = LOSSES[name](student, student.detach() + 7, LABELS, 3.0)
    assert value.abs().max() < 1e-6
    assert name == "tv" or gradient(value.sum(), student).abs().max() < 1e-6
    assert LOSSES[name](student, random_logits(seed=9), LABELS, 3.0).min() > 1e-3


# Accuracy. References are in numpy's float64 and in closed form, except that of dist.


def softmax(z):
    """Of float64 rows."""
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def slope_of_kl(s, t, labels, T):
    return T * (softmax(s / T) - softmax(t / T))


def slope_of_mse(s, t, labels, T):
    return ((s - s.mean(1, keepdims=True)) - (t - t.mean(1, keepdims=True))) / s.shape[1]


def slope_of_dkd(s, t, labels, T):
    """With u the log-odds of the label: dTCKD = (p_s − p_t) du, du/dz = 1 for the label and −q for the others."""
    rows, label = np.arange(len(s)), labels.numpy()
    is_label = np.zeros(s.shape, bool)
    is_label[rows, label] = True
    others_s, others_t = (softmax(np.where(is_label, -np.inf, z / T)) for z in (s, t))
    p_s, p_t = (softmax(z / T) for z in (s, t))
    rest = np.where(is_label, 0, p_s).sum(1) - np.where(is_label, 0, p_t).sum(1)  # exact where p is near 1
    gap = np.where(p_t[rows, label] > 0.5, -rest, p_s[rows, label] - p_t[rows, label])[:, None]
    return T * (1.0 * gap * np.where(is_label, 1, -others_s) + 8.0 * (others_s - others_t))


def slope_of_dist(s, t, labels, T):
    leaf = torch.from_numpy(s).requires_grad_()
    return len(s) * gradient(published_dist(leaf, torch.from_numpy(t), 1.0, 1.0, T), leaf).numpy()


def slope_of_js(s, t, labels, T):
    """½ q (r − Σ q r), with r = log(q / m) and m the mean of the probabilities p and q."""
    p, q = softmax(t / T), softmax(s / T)
    r = np.log(np.divide(q, (p + q) / 2, out=np.ones_like(q), where=q > 1e-300))
    return T / 2 * q * (r - (q * r).sum(1, keepdims=True))


SLOPES = {"kl": slope_of_kl, "ce": slope_of_kl, "mse": slope_of_mse, "dkd": slope_of_dkd, "dist": slope_of_dist}
SLOPES["js"] = slope_of_js


def drawn(size, classes, seed):
    """Four rows: two spread over ± size, two of exactly + and − size."""
    generator = torch.Generator().manual_seed(seed)
    rows = 2 * torch.rand(4, classes, generator=generator) - 1
    rows[2:] = rows[2:].sign()
    return rows * size


@pytest.mark.parametrize("classes", [2, 10, 100_000])
@pytest.mark.parametrize("size", [5.0, 1e4])
@pytest.mark.parametrize("T", [0.1, 1.0, 20.0, 1000.0])
@pytest.mark.parametrize("name", SLOPES)
def test_gradients_in_float32_from_float16_targets(name, T, size, classes):
    """Within 1e-3 of the reference, element by element, down to what float64 leaves of the largest, or float32 can hold."""
    student, teacher = drawn(size, classes, 1).requires_grad_(), drawn(size, classes, 2).half()
    labels = torch.tensor([0, 1, classes - 1, 0])
    values = SoftLoss.parse(name)(student, teacher, labels, T)
    assert values.dtype == torch.float64
    assert values.shape == (4,)
    assert torch.isfinite(values).all()
    values.sum().backward()
    assert student.grad.dtype == torch.float32
    expected = SLOPES[name](student.detach().double().numpy(), teacher.double().numpy(), labels, T)
    assert np.isfinite(expected).all()
    atol = max(1e-13 * np.abs(expected).max(), 1e-37)
    if name == "js":  # a sum of logarithms near 0, of which float64 leaves 1e-16, here and in the reference
        atol = max(atol, 1e-15 * T)
    np.testing.assert_allclose(student.grad.double().numpy(), expected, rtol=1e-3, atol=atol)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("standardised", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_narrow_inputs_are_widened_before_anything_is_computed(name, standardised, dtype):
    """Bit for bit the value of the same numbers in float64."""
    student, teacher = (z.to(dtype) for z in pair())
    loss = SoftLoss.parse(name, standardised=standardised)
    assert torch.equal(loss(student, teacher, LABELS, 3.0), loss(student.double(), teacher.double(), LABELS, 3.0))
    assert torch.equal(losses.cross_entropy(student, LABELS), losses.cross_entropy(student.double(), LABELS))


def test_kl_keeps_its_digits_at_high_temperatures():
    """A student near its teacher at T = 1000; for small d, T² · KL is the variance of d under uniform, halved."""
    teacher = random_logits(seed=2)
    student = teacher + random_logits(seed=3) * 0.01
    expected = (student.double() - teacher.double()).var(dim=1, correction=0) / 2
    found = SoftLoss.parse("kl")(student, teacher, None, 1000.0)
    torch.testing.assert_close(found, expected, rtol=0.02, atol=0)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("standardised", [False, True])
@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("flat", ["student", "teacher", "both"])
def test_constant_rows_have_finite_gradients(name, standardised, rows, flat):
    """A norm or deviation of 0, and a last batch of one row."""
    student, teacher = pair(rows, 4)
    student = (torch.full_like(student, 2.0) if flat != "teacher" else student.detach()).requires_grad_()
    teacher = torch.full_like(teacher, -1.0) if flat != "student" else teacher
    values = SoftLoss.parse(name, standardised=standardised)(student, teacher, LABELS[:rows] % 4, 2.0)
    assert torch.isfinite(values).all()
    assert torch.isfinite(gradient(values.sum(), student)).all()


def test_dkd_of_two_classes_has_no_other_class_to_teach():
    student, teacher = pair(6, 2)
    values = losses.dkd(student, teacher, LABELS % 2, 1.0, alpha=0.0)
    assert values.tolist() == [0.0] * 6
    assert not gradient(values.sum(), student).any()
    tckd = losses.dkd(student, teacher, LABELS % 2, 1.0)
    torch.testing.assert_close(tckd, losses.kl(student, teacher, None, 1.0), rtol=1e-9, atol=0)


# Students stacked along the second axis.


@pytest.mark.parametrize("standardised", [False, True])
@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize("shared", ["nothing", "students", "rows"])
@pytest.mark.parametrize("name", NAMES)
def test_a_stack_of_students_is_each_of_them(name, shared, squared, standardised):
    """K = 3 students with temperatures of their own; targets are their own, or shared by all, or by all rows too."""
    temperatures = torch.tensor([[0.5], [1.0], [4.0]], dtype=torch.float64)
    student, teacher = pair(6, 3, 5, dtype=torch.float32)
    teacher = {"nothing": teacher, "students": teacher[:, :1], "rows": teacher[:1, :1]}[shared]
    loss = SoftLoss.parse(name, squared=squared, standardised=standardised)
    together = loss(student, teacher, LABELS, temperatures)
    assert together.shape == (6, 3)
    alone = []
    for k, T in enumerate((0.5, 1.0, 4.0)):
        alone.append(loss(student[:, k], teacher.expand(6, 3, 5)[:, k], LABELS, T))
    alone = torch.stack(alone, dim=1)
    torch.testing.assert_close(together, alone, rtol=1e-12, atol=1e-14)
    weights = torch.rand(6, 3, generator=torch.Generator().manual_seed(0))
    found, expected = (gradient((values * weights).sum(), student) for values in (together, alone))
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)


def test_targets_that_would_be_broadcast_the_wrong_way_are_refused():
    """As many students as rows: (B, C) would fit (K, C)."""
    with pytest.raises(ValueError, match=r"found targets \(5, 4\) for logits \(5, 5, 4\)"):
        SoftLoss.parse("kl")(random_logits(5, 5, 4), random_logits(5, 4), None, 1.0)


# The spec.


@pytest.mark.parametrize("name", NAMES)
def test_a_loss_is_multiplied_by_squared_temperature_unless_it_has_it(name):
    student, teacher = pair()
    plain = SoftLoss.parse(name, squared=False)(student, teacher, LABELS, 3.0)
    assert torch.equal(plain, LOSSES[name](student, teacher, LABELS, 3.0))
    factor = 1.0 if name in ("mse", "mlkd") else 9.0
    assert torch.equal(SoftLoss.parse(name)(student, teacher, LABELS, 3.0), factor * plain)


@pytest.mark.parametrize(
    ("text", "canonical", "needs_labels"),
    [
        ("kl", "kl()", False),
        ("ce()", "ce()", False),
        (" mse ( )", "mse()", False),
        ("dkd(beta=2.0)", "dkd(alpha=1.0, beta=2.0)", True),
        ("dist(2, gamma=0)", "dist(beta=2, gamma=0)", False),
        ("js", "js()", False),
        ("tv", "tv()", False),
        ("mlkd(batch=0)", "mlkd(instance=1.0, batch=0, classes=1.0)", False),
    ],
)
def test_canonical_text(text, canonical, needs_labels):
    loss = SoftLoss.parse(text)
    assert (loss.text, loss.needs_labels) == (canonical, needs_labels)
    assert (loss.squared, loss.standardised) == (True, False)
    assert SoftLoss.parse(canonical) == loss


def test_settings_reach_the_loss():
    student, teacher = pair()
    expected = losses.dkd(student, teacher, LABELS, 2.0, alpha=0.5, beta=3.0)
    assert torch.equal(SoftLoss.parse("dkd(0.5, 3.0)", squared=False)(student, teacher, LABELS, 2.0), expected)


def test_a_plug_in_is_taken_to_read_labels(tmp_path, monkeypatch):
    (tmp_path / "softcache_own_loss.py").write_text(
        "def twice(logits, targets, labels, temperature, weight=2.0):\n"
        "    return weight * (logits - targets).double().sum(-1)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SOFTCACHE_PLUGINS", "softcache_own_loss")
    monkeypatch.syspath_prepend(tmp_path)
    loss = SoftLoss.parse("softcache_own_loss:twice")
    assert loss.needs_labels
    student, teacher = pair()
    assert torch.equal(loss(student, teacher, LABELS, 3.0), 9 * 2 * (student - teacher).sum(-1))


@pytest.mark.parametrize(
    "setting", ["alpha=-0.1", "alpha=True", "alpha='1'", "alpha=None", "alpha=[1.0]", "beta=1" + "0" * 400]
)
def test_settings_that_are_no_finite_numbers_of_at_least_0_are_refused(setting):
    with pytest.raises(InputError, match="loss .*dkd.*: expected a finite number of at least 0"):
        SoftLoss.parse(f"dkd({setting})")


@pytest.mark.parametrize("text", ["kld", "kl(alpha=1.0)", "mse(2)", "dkd(gamma=1.0)", "dist(", "", 3, "kl(logits=1)"])
def test_bad_specs_are_refused(text):
    with pytest.raises(InputError):
        SoftLoss.parse(text)


@pytest.mark.parametrize("label", [-1, 5])
def test_labels_out_of_range_are_refused(label):
    """UNLABELLED is −1: it must not count from the end."""
    labels, (student, teacher) = torch.full((6,), label), pair()
    with pytest.raises(RuntimeError, match="out of bounds"):
        losses.dkd(student, teacher, labels, 1.0)
    with pytest.raises(IndexError, match="out of bounds"):
        losses.cross_entropy(student, labels)


# ---------------------------------------------------------------- losses of the user's own

OWN = """
import torch
from torch.nn import functional as F

def turned(logits_teacher, logits_student, labels, temperature):
    return (logits_student - logits_teacher).pow(2).sum(-1)

def huber(logits, targets, labels, temperature, delta=1.0):
    return F.huber_loss(logits / temperature, targets / temperature, delta=delta, reduction="none").mean(dim=-1)

def camel(teacherLogits, studentLogits, labels, temperature):
    return (studentLogits - teacherLogits).pow(2).sum(-1)

def joined(teacherlogits, studentlogits, y, t):
    return (studentlogits - teacherlogits).pow(2).sum(-1)

def heated(student, soft_labels, target, student_temperature):
    return (student - soft_labels).pow(2).sum(-1)

def late(student_out, teacher_out, temperature_, target):
    return (student_out - teacher_out).pow(2).sum(-1)

def scalar(logits_student, logits_teacher, _, T_):
    return F.kl_div(F.log_softmax(logits_student / T_, dim=1), F.softmax(logits_teacher / T_, dim=1), reduction="batchmean")

def published(logits_student, logits_teacher, temperature, logit_stand=False):
    pred, target = F.log_softmax(logits_student / temperature, dim=1), F.softmax(logits_teacher / temperature, dim=1)
    return F.kl_div(pred, target, reduction="none").sum(1).mean() * temperature**2

def swapped(outputs, labels, teacher_outputs, temperature):
    return (outputs - teacher_outputs).pow(2).sum(-1)

def per_class(logits, targets, labels, temperature):
    return (logits - targets) ** 2

def second(logits, targets, labels, temperature):
    q, p = F.log_softmax(logits / temperature, dim=1), F.softmax(targets / temperature, dim=1)
    return F.kl_div(q, p, reduction="none").sum(1)

def last(logits, targets, labels, temperature):
    q, p = F.log_softmax(logits / temperature, dim=-1), F.softmax(targets / temperature, dim=-1)
    return F.kl_div(q, p, reduction="none").sum(-1)

def detached(logits, targets, labels, temperature):
    return last(logits.detach(), targets, labels, temperature)

def integers(logits, targets, labels, temperature):
    return (logits.argmax(-1) != targets.argmax(-1)).long()

def text(logits, targets, labels, temperature):
    return "0.5"

def three(logits, targets, labels):
    return (logits - targets).pow(2).sum(-1)
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    with plugs.module(tmp_path, monkeypatch, "own_losses", OWN):
        yield


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("scalar", r"own_losses:scalar\(\): expected a float tensor of shape \(5,\), found a scalar of torch.float64"),
        ("published", r"expected a function of \(logits, targets, labels, temperature, …\), found one of \(logits_student"),
        ("swapped", r"found one of \(outputs, labels, teacher_outputs, temperature, …\). Wrap it in a function"),
        ("turned", r"found one of \(logits_teacher, logits_student, labels, temperature, …\)"),
        ("camel", r"found one of \(teacherLogits, studentLogits, labels, temperature, …\)"),
        ("joined", r"found one of \(teacherlogits, studentlogits, y, t, …\)"),
        ("late", r"found one of \(student_out, teacher_out, temperature_, target, …\)"),
        ("per_class", r"expected a float tensor of shape \(5,\), found shape \(5, 4\) of torch.float64"),
        ("detached", "expected a loss with a gradient, found one without"),
        ("integers", "found shape .* of torch.int64"),
        ("text", "found str"),
        ("three", "TypeError: three.. takes 3 positional arguments but 4 were given"),
    ],
)
def test_a_loss_that_trains_rubbish_is_refused_with_what_it_returned(own, name, message):
    with pytest.raises(InputError, match=message):
        SoftLoss.parse(f"own_losses:{name}()").require_use(4)


@pytest.mark.parametrize("classes", [2, 3, 5, 7, 100])
def test_a_loss_that_counts_axes_from_the_front_takes_one_student_at_a_time(own, classes):
    for name, stacks in (("last", True), ("second", False), ("three", False)):
        loss = SoftLoss.parse(f"own_losses:{name}()")
        assert loss.stacks(classes) == stacks, name
    for name in ("second", "heated"):
        SoftLoss.parse(f"own_losses:{name}()").require_use(classes)
    assert all(SoftLoss.parse(name).stacks(classes) for name in NAMES)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_loss_that_wants_one_dtype_and_one_shape_gets_them(own, dtype):
    """huber_loss has no gradient for targets of another dtype, and warns of those of another shape."""
    loss = SoftLoss.parse("own_losses:huber(delta=2.0)")
    loss.require_use(5)
    assert loss.stacks(5)
    student, teacher = random_logits(6, 3, 5).double().requires_grad_(), random_logits(6, 1, 5).to(dtype)
    loss(student, teacher, LABELS, torch.ones(3, 1, dtype=torch.float64)).sum().backward()
    far = (student - teacher).detach()
    expected = torch.where(far.abs() < 2, far, 2 * far.sign()) / 5
    torch.testing.assert_close(student.grad, expected)


def test_shapes_are_checked_at_every_call(own):
    loss = SoftLoss.parse("own_losses:second()")
    student, teacher = random_logits(6, 3, 5), random_logits(6, 1, 5)
    with pytest.raises(InputError, match=r"expected a float tensor of shape \(6, 3\), found shape \(6, 5\)"):
        loss(student, teacher, LABELS, torch.ones(3, 1, dtype=torch.float64))


def test_of_two_classes_some_losses_learn_nothing_and_are_refused():
    """The gradient vanishes: of standardised logits, and of the correlation over two probabilities; not of the others."""
    student, teacher = pair(6, 2)
    for text, standardised, setting in (
        ("kl", True, "standardise"),
        ("dist(gamma=0)", False, "dist.*beta"),
        ("dist", False, "beta"),
    ):
        loss = SoftLoss.parse(text, standardised=standardised)
        if text != "dist":  # its other term does learn
            assert gradient(loss(student, teacher, LABELS % 2, 2.0).sum(), student).abs().max() < 1e-5
        with pytest.raises(
            InputError, match=f"{setting}: expected three classes or more, found two, from which nothing is learned"
        ):
            loss.require_use(2)
        loss.require_use(3)
    for text in ("kl", "ce", "mse", "dkd", "dist(beta=0)", "js", "tv", "mlkd"):
        loss = SoftLoss.parse(text)
        loss.require_use(2)
        assert gradient(loss(student, teacher, LABELS % 2, 2.0).sum(), student).abs().max() > 1e-3
