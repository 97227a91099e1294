"""Plugin `standard`: what several papers need. It has no privilege over other plugins."""

from kempeframe import hookimpl
from kempeframe_standard import (
    attacks,
    data,
    data_generated,
    data_images,
    data_text,
    evaluators,
    evaluators_outputs,
    evaluators_robust,
    evaluators_trajectory,
    models,
    models_diagonal,
    models_images,
    models_pretrained,
    models_text,
    optimizers,
    optimizers_gradient,
)


@hookimpl
def kempeframe_data():  # type: ignore[no-untyped-def]
    generated = [data_generated.GaussianMixture, data_generated.TeacherStudent]
    return [data.Digits, data.LinearRegression, data_images.HubImages, data_text.HubText, *generated]


@hookimpl
def kempeframe_model():  # type: ignore[no-untyped-def]
    images = [models_images.Cnn, models_images.Resnet18]
    text = [models_text.Decoder, models_text.Encoder, models_text.EncoderDecoder]
    others = [models_diagonal.Diagonal, models_pretrained.Pretrained]
    return [models.Linear, models.RandomFeatures, models.Mlp, *images, *text, *others]


@hookimpl
def kempeframe_optimizer():  # type: ignore[no-untyped-def]
    solvers = [optimizers.Ridge, optimizers.LogisticRegression, optimizers.Untrained]
    return [*solvers, optimizers_gradient.Sgd, optimizers_gradient.Adam, optimizers_gradient.Adamw]


@hookimpl
def kempeframe_evaluator():  # type: ignore[no-untyped-def]
    outputs = [evaluators_outputs.TestLoss, evaluators_outputs.PerClassAccuracy, evaluators_outputs.CalibrationError]
    robust = [evaluators_robust.RobustAccuracy, evaluators_robust.AttackSanity]
    curves = [evaluators_trajectory.AtLevel, evaluators_trajectory.AlongLevels, evaluators_trajectory.AtBest]
    return [evaluators.TestError, evaluators.Accuracy, *outputs, *robust, *curves]


@hookimpl
def kempeframe_attack():  # type: ignore[no-untyped-def]
    return [attacks.Fgsm, attacks.Pgd, attacks.LinearAttack, attacks.Noise, attacks.Transfer]
